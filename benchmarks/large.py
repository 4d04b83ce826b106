"""A 7-billion-parameter model of random weights, made on the device: training, scoring and writing, and their memory.

    python benchmarks/large.py [--small] [--repeats 3]

The shape is Llama 2's with 7 billion parameters; speed and memory do not depend on what the weights are. Paths: weights
in bf16, in 8 and in 4 bits, and bf16 with half of the products' weights left on the processor; transformers and PEFT
over the same tensors. What is measured, all over random tokens:

- `take`: from a dictionary of weights in bf16 to a backbone; `bytes` is what it holds.
- `train`, `train again`: a step of one deep prompt (P = 20) over 16 rows of 128 tokens, AdamW included, and the same
  with layers computed again in the backward.
- `train, little room`: the same where only 4 GiB of the device are free.
- `many`: a step of 8 prompts with 2 rows each of 128 tokens.
- `score`: 64 rows of 128 tokens at their last token.
- `agreement`: of our states with transformers', the least cosine.
- `generate`: 64 rows of 32 tokens with 16 prompts of 20 get 32 tokens each. PEFT switches adapters, 4 rows at a time;
  one is timed, and counted.

`milliseconds` is the least of the repeats, `peak_mib` the peak that a path adds to what lies on the device, `held_mib`
what its weights hold. `--small` does the same with a tiny model, on a processor where there is no GPU. Prints JSON and
writes benchmarks/results/large.json.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from keep import commit
from torch import Tensor

from promptgraft.model.backbone import Arithmetic, Batch
from promptgraft.model.causal import CausalBackbone
from promptgraft.model.decoder import DecoderShape, assemble, read_decoder_shape
from promptgraft.model.memory import MemoryLimit
from promptgraft.model.stored import Room, TakeFrozen
from promptgraft.model.tokenize import Tokenizer, load_tokenizer
from promptgraft.model.tokens import Tokens
from promptgraft.prompt.prompt import Prompt, stack

SEVEN = {
    "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 32, "intermediate_size": 11008, "vocab_size": 32000, "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
}  # fmt: skip
SMALL = SEVEN | {
    "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 4,
    "intermediate_size": 128, "vocab_size": 300,
}  # fmt: skip
PROMPT, PROMPTS, SPREAD, LITTLE = 20, 16, 0.02, 4 << 30
RESULTS = Path(__file__).parent / "results"
Row = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """How much is trained on, scored and written."""

    train: int = 16
    length: int = 128
    score: int = 64
    each: int = 4
    text: int = 32
    written: int = 32


class Bench:
    """Measures on one device.

    Args:
        repeats: of each measurement, after one that is not counted.
    """

    def __init__(self, config: dict[str, Any], sizes: Sizes, device: torch.device, repeats: int) -> None:
        self.shape, self.config, self.sizes = read_decoder_shape(config, "large"), config, sizes
        self.device, self.repeats = device, repeats
        self.rows: list[Row] = []

    def weights(self) -> dict[str, Tensor]:
        """Random weights on the device, under the names of the model's files."""
        generator = torch.Generator(self.device).manual_seed(0)
        found = {}
        for name, size in names_of(self.shape):
            weight = torch.ones(size, dtype=torch.bfloat16, device=self.device)
            found[name] = weight.normal_(0, SPREAD, generator=generator) if len(size) > 1 else weight
        return found

    def backbone(self, path: str, arithmetic: Arithmetic, room: float = math.inf) -> CausalBackbone:
        """Ours, with the time and memory of making it kept."""
        weights = self.weights()
        with self.peak() as memory:
            began = self.now()
            take = TakeFrozen(weights, "large", torch.bfloat16, self.device, arithmetic, Room(room))
            frozen = assemble(self.shape, take)
            gc.collect()
            milliseconds = 1000 * (self.now() - began)
        found = CausalBackbone(
            "large", self.shape, weights, tokenizer(), dtype=torch.bfloat16, arithmetic=arithmetic, pooling=None,
            fingerprint="random", frozen=frozen,
        )  # fmt: skip
        self.keep("take", path, milliseconds, memory)
        return found

    def now(self) -> float:
        """The time once the device has done all that it was asked for."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    @contextmanager
    def peak(self) -> Iterator[dict[str, float]]:
        """A context whose peak is in the dictionary that it gives, in MiB beyond what was held before it."""
        found: dict[str, float] = {}
        if self.device.type != "cuda":
            yield found
            return
        gc.collect()
        torch.cuda.empty_cache()
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        yield found
        found["peak_mib"] = round((torch.cuda.max_memory_allocated() - held) / 2**20)
        found["held_mib"] = round(torch.cuda.memory_allocated() / 2**20)

    def measure(self, what: str, path: str, turn: Callable[[], None], counted: int = 1) -> None:
        """Time a turn, which is counted so many times."""
        with self.peak() as memory:
            turn()
            seconds = []
            for _ in range(self.repeats):
                began = self.now()
                turn()
                seconds.append(self.now() - began)
        self.keep(what, path, 1000 * counted * min(seconds), memory)

    def keep(self, what: str, path: str, milliseconds: float, memory: dict[str, float]) -> None:
        row = {"what": what, "path": path, "milliseconds": round(milliseconds, 1), **memory}
        self.rows.append(row)
        print(json.dumps(row), flush=True)

    def tokens(self, rows: int, length: int, *, answers: bool = False) -> Tokens:
        """Rows of random tokens; the last of each is its answer where there are answers."""
        generator = torch.Generator().manual_seed(rows)
        ids = torch.randint(3, self.shape.vocabulary, (rows * length,), generator=generator)
        last = torch.arange(1, rows * length + 1) % length == 0
        starts = torch.arange(rows + 1) * length
        return Tokens(ids, torch.zeros_like(ids), starts, torch.arange(rows + 1), answers=last if answers else None)

    def prompts(self, count: int) -> list[Tensor]:
        shape = (self.shape.layers, 2, PROMPT, self.shape.key_width)
        return [torch.randn(shape, device=self.device) * 0.1 for _ in range(count)]

    def training(self, backbone: CausalBackbone, prompts: int, memory: MemoryLimit) -> Callable[[], None]:
        """A step of so many deep prompts: forward, loss, backward, AdamW."""
        values = [value.requires_grad_() for value in self.prompts(prompts)]
        optimiser = torch.optim.AdamW(values, lr=1e-3)
        tokens = self.tokens(self.sizes.train, self.sizes.length, answers=True)
        batch = Batch(tokens, torch.arange(prompts).repeat_interleave(self.sizes.train // prompts))

        def turn() -> None:
            backbone.memory = memory
            together = stack([Prompt(value, "peft") for value in values])
            (-backbone.forward(batch, together, "answer").mean()).backward()
            optimiser.step()
            optimiser.zero_grad()

        return turn

    def scoring(self, backbone: CausalBackbone) -> Callable[[], None]:
        batch = Batch(self.tokens(self.sizes.score, self.sizes.length))

        def turn() -> None:
            backbone.forget()
            with torch.no_grad():
                states = backbone.forward(batch, None, "mark")
                states @ backbone.columns(torch.tensor([100, 200]))[0].T.to(states)

        return turn

    def writing(self, backbone: CausalBackbone) -> Callable[[], None]:
        batch = Batch(
            self.tokens(PROMPTS * self.sizes.each, self.sizes.text),
            torch.arange(PROMPTS).repeat_interleave(self.sizes.each),
        )
        together = stack([Prompt(value, "peft") for value in self.prompts(PROMPTS)])

        def turn() -> None:
            backbone.forget()
            backbone.generate(batch, together, most=self.sizes.written)

        return turn

    def all_of(self, path: str, backbone: CausalBackbone) -> None:
        """Everything on one backbone."""
        self.measure("train", path, self.training(backbone, 1, MemoryLimit()))
        self.measure("train again", path, self.training(backbone, 1, MemoryLimit(0)))
        self.measure("many", path, self.training(backbone, 8, MemoryLimit()))
        self.measure("score", path, self.scoring(backbone))
        self.measure("generate", path, self.writing(backbone))

    def with_little_room(self, backbone: CausalBackbone) -> None:
        """A step where all but LITTLE of the device is taken: that layers have to be computed again is found out."""
        torch.cuda.empty_cache()
        taken = torch.empty(torch.cuda.mem_get_info()[0] - LITTLE, dtype=torch.uint8, device=self.device)
        self.measure("train, little room", "bf16", self.training(backbone, 1, MemoryLimit()))
        del taken

    def theirs(self, backbone: CausalBackbone) -> Any:
        """transformers' model over the same tensors."""
        from transformers import LlamaConfig, LlamaForCausalLM

        settings = {name: value for name, value in self.config.items() if name != "model_type"}
        with torch.device("meta"):
            model = LlamaForCausalLM(LlamaConfig(**settings, pad_token_id=0)).to(torch.bfloat16)
        state = {
            name if name == "lm_head.weight" else f"model.{name}": weight for name, weight in backbone.weights.items()
        }
        model.load_state_dict(state, assign=True)
        model.model.rotary_emb = type(model.model.rotary_emb)(model.config).to(self.device)
        return model.eval().requires_grad_(False)

    def peers(self, backbone: CausalBackbone) -> None:
        """The same work by transformers and PEFT."""
        from peft import PrefixTuningConfig, TaskType, get_peft_model

        plain, sizes = self.theirs(backbone), self.sizes
        ids = self.tokens(sizes.score, sizes.length).ids.view(sizes.score, -1).to(self.device)

        def score() -> None:
            with torch.no_grad():
                plain(input_ids=ids, logits_to_keep=1).logits[:, -1, [100, 200]]

        self.measure("score", "transformers bf16", score)
        with torch.no_grad():
            other = plain.model(input_ids=ids[:2]).last_hidden_state[:, -1].float()
        own = backbone.forward(Batch(self.tokens(sizes.score, sizes.length).select(torch.arange(2))), None, "mark")
        cosine = float(torch.nn.functional.cosine_similarity(own.detach(), other).min())
        self.rows.append({"what": "agreement", "path": "transformers bf16", "cosine": round(cosine, 4)})
        config = PrefixTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=PROMPT)
        model = get_peft_model(plain, config, adapter_name="0")
        model.add_adapter("1", config)
        model.to(self.device, torch.bfloat16)
        optimiser = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=1e-3)
        rows = self.tokens(sizes.train, sizes.length).ids.view(sizes.train, -1).to(self.device)
        labels = torch.full_like(rows, -100)
        labels[:, -1] = rows[:, -1]

        def train(count: int) -> Callable[[], None]:
            def turn() -> None:
                mask = torch.ones_like(rows[:count])
                model(input_ids=rows[:count], attention_mask=mask, labels=labels[:count]).loss.backward()
                optimiser.step()
                optimiser.zero_grad()

            return turn

        model.train()
        self.measure("train", "peft bf16", train(sizes.train))
        self.measure("many", "peft bf16", train(sizes.train // 8), counted=8)
        model.eval()
        text = self.tokens(sizes.each, sizes.text).ids.view(sizes.each, -1).to(self.device)
        turns = iter(range(1 << 30))

        def write() -> None:
            model.set_adapter(str(next(turns) % 2))
            with torch.no_grad():
                model.generate(
                    input_ids=text, attention_mask=torch.ones_like(text), max_new_tokens=sizes.written,
                    min_new_tokens=sizes.written, do_sample=False,
                )  # fmt: skip

        self.measure("generate", "peft bf16", write, counted=PROMPTS)

    def run(self) -> list[Row]:
        """Every path, each with the device to itself."""
        backbone = self.backbone("bf16", "bf16")
        self.all_of("bf16", backbone)
        if self.device.type == "cuda":
            self.with_little_room(backbone)
        self.peers(backbone)
        del backbone
        for path in ("int8", "int4"):
            self.all_of(path, self.backbone(path, path))
        if self.device.type == "cuda":
            numbers = sum(math.prod(size) for _, size in names_of(self.shape))
            left = self.backbone("bf16, half of it left", "bf16", room=numbers)
            self.measure("train", "bf16, half of it left", self.training(left, 1, MemoryLimit()))
            self.measure("score", "bf16, half of it left", self.scoring(left))
        return self.rows


def names_of(shape: DecoderShape) -> list[tuple[str, tuple[int, ...]]]:
    """The names and sizes of a Llama's weights."""
    hidden, wide = shape.hidden, shape.wide
    found: list[tuple[str, tuple[int, ...]]] = [
        ("embed_tokens.weight", (shape.vocabulary, hidden)),
        ("norm.weight", (hidden,)),
    ]
    for number in range(shape.layers):
        sizes = {
            "self_attn.q_proj": (shape.query_width, hidden), "self_attn.k_proj": (shape.key_width, hidden),
            "self_attn.v_proj": (shape.key_width, hidden), "self_attn.o_proj": (hidden, shape.query_width),
            "mlp.gate_proj": (wide, hidden), "mlp.up_proj": (wide, hidden), "mlp.down_proj": (hidden, wide),
            "input_layernorm": (hidden,), "post_attention_layernorm": (hidden,),
        }  # fmt: skip
        found += [(f"layers.{number}.{name}.weight", size) for name, size in sizes.items()]
    return [*found, ("lm_head.weight", (shape.vocabulary, hidden))]


def tokenizer() -> Tokenizer:
    """A tokenizer of single bytes: what is measured has random tokens."""
    from tokenizers import AddedToken, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as Engine

    special = ["<pad>", "<s>", "</s>"]
    words = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    engine = Engine(models.BPE({word: number for number, word in enumerate(words)}, []))
    engine.pre_tokenizer, engine.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    engine.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in special])
    with tempfile.TemporaryDirectory() as folder:
        engine.save(str(Path(folder) / "tokenizer.json"))
        return load_tokenizer(Path(folder))


def main() -> None:
    sys.path.remove(
        str(Path(__file__).parent)
    )  # where transformers would take our kernels.py for a package of that name
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a tiny model: whether it runs, not how fast")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    given = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not given.small:
        print("there is no GPU here; --small runs the same with a tiny model")
        return
    sizes = Sizes(train=8, length=8, score=8, each=2, text=6, written=3) if given.small else Sizes()
    began = time.perf_counter()
    rows = Bench(SMALL if given.small else SEVEN, sizes, device, given.repeats).run()
    where = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    belongs = {"small": given.small, "device": where, "torch": torch.__version__, "commit": commit()}
    given.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps([row | belongs for row in rows], indent=2)
    (given.out / "large.json").write_text(text + "\n", encoding="utf-8")
    print(f"{time.perf_counter() - began:.0f} s in all")


if __name__ == "__main__":
    main()
