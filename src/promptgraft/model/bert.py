"""BERT, RoBERTa, XLM-RoBERTa and ELECTRA share one layout of weights under the same names."""

from __future__ import annotations

from promptgraft.model.encoder import Encoder, Layer, Shape, Take


def assemble(shape: Shape, take: Take) -> Encoder:
    """Put the weights in the order they are used."""
    width = shape.embedding_width
    return Encoder(
        words=take("embeddings.word_embeddings.weight", shape.vocabulary, width),
        types=take("embeddings.token_type_embeddings.weight", shape.types, width),
        positions=take("embeddings.position_embeddings.weight", shape.positions, width),
        embedded_norm=take.norm("embeddings.LayerNorm", width),
        project=None if width == shape.hidden else take.linear("embeddings_project", shape.hidden, width),
        layers=tuple(_layer(f"encoder.layer.{number}", shape, take) for number in range(shape.layers)),
        pooler=take.pooler("pooler.dense", shape.hidden),
    )


def _layer(name: str, shape: Shape, take: Take) -> Layer:
    attention = tuple(f"{name}.attention.self.{part}" for part in ("query", "key", "value"))
    return Layer(
        qkv=take.fused(attention, shape.hidden, shape.hidden),
        attended=take.linear(f"{name}.attention.output.dense", shape.hidden, shape.hidden),
        attended_norm=take.norm(f"{name}.attention.output.LayerNorm", shape.hidden),
        wide=take.linear(f"{name}.intermediate.dense", shape.wide, shape.hidden),
        narrow=take.linear(f"{name}.output.dense", shape.hidden, shape.wide),
        narrow_norm=take.norm(f"{name}.output.LayerNorm", shape.hidden),
    )
