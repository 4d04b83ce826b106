// The library's entry points: plain pointers in, 0 or a reason out. Python checks the sizes before it calls.
#include <omp.h>

#include "causal.h"
#include "learn.h"
#include "product.h"
#include "rows.h"

#if defined(__AMX_BF16__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

using namespace pg;

namespace {

enum Reason { FINE = 0, NO_MEMORY = 1, OUT_OF_RANGE = 2, NO_TILES = 3 };

struct Handle {
    bool half;
    Encoder<float> full;
    Encoder<bf16> halved;
};

// A thread's working memory, kept for its next block.
struct Arena {
    char* base = nullptr;
    size_t size = 0;
    bool grow(size_t wanted) {
        if (wanted <= size) return true;
        std::free(base);
        base = (char*)std::aligned_alloc(64, up64(wanted));
        size = base ? up64(wanted) : 0;
        return base != nullptr;
    }
    static size_t up64(size_t n) { return (n + 63) / 64 * 64; }
    ~Arena() { std::free(base); }
};

Arena& arena() {
    static thread_local Arena mine;
    return mine;
}

bool may_use_tiles() {
#if defined(__AMX_BF16__)
    const int ask = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM
    return syscall(SYS_arch_prctl, ask, tile_data) == 0;
#else
    return true;
#endif
}

bool within(const int64_t* values, int64_t count, int64_t limit) {
    int64_t outside = 0;
    for (int64_t i = 0; i < count; i++) outside += (uint64_t)values[i] >= (uint64_t)limit;
    return outside == 0;
}

// Offsets start at 0 and grow by at least `least`.
bool rising(const int64_t* offsets, int64_t count, int64_t least) {
    bool fine = offsets[0] == 0;
    for (int64_t i = 0; i < count; i++) fine &= offsets[i + 1] - offsets[i] >= least;
    return fine;
}

// Whether every index of the call points at something: what is read below is not looked at again.
template <class S>
bool is_sound(const Encoder<S>& e, const Call& call) {
    if (call.sequences < 1 || call.threads < 1 || !rising(call.starts, call.sequences, 1)) return false;
    const int64_t rows = call.starts[call.sequences];
    if (rows > INT32_MAX / 8) return false;
    if (!call.input)
        if (!e.words || !within(call.ids, rows, e.vocabulary) || !within(call.types, rows, e.kinds) ||
            !within(call.positions, rows, e.places))
            return false;
    if (call.drop_below && (call.drop_below < 0 || call.drop_below > UINT32_MAX || !call.drop_keys)) return false;
    if (!call.prompts) return true;
    return rising(call.prompt_starts, call.prompts, 0) && call.prompt_starts[call.prompts] == call.prompt_rows &&
           within(call.prompt_of, call.sequences, call.prompts);
}

template <class S>
std::vector<Kept<S>> carve_kept(Carver& from, const Sizes& z, const Plan& plan, const Call& call) {
    std::vector<Kept<S>> kept;
    for (int turn = 0; turn < z.layers; turn++)
        kept.emplace_back(from, z, plan.rows, plan.reads, call.read_first && turn == z.layers - 1, call.learn);
    return kept;
}

// -1 for a call that is not sound.
template <class S>
int64_t saved_bytes(const Encoder<S>& e, const Call& call) {
    if (!is_sound(e, call)) return -1;
    Plan plan(call);
    Carver count{nullptr};
    TurnedPrompts turned(count, e.sizes, call, is_tiled<S>(e.sizes));
    if (call.keep) carve_kept<S>(count, e.sizes, plan, call);
    return (int64_t)count.used;
}

// Generous for either direction: what `Pass::forward` and `Pass::backward` take, and a head's room.
template <class S>
size_t room_bytes(const Encoder<S>& e, const Plan& plan) {
    const Sizes& z = e.sizes;
    size_t rows = plan.most_rows, w = z.width(), reads = plan.most_reads;
    size_t floats = 2 * rows * w + 2 * reads * w + head_floats<S>(z, plan);
    size_t values = rows * (6 * w + std::max<size_t>(w, z.broad())) + reads * w;
    size_t int8 = z.int8 ? rows * (Int8Rows::width(std::max<int>(z.width(), z.broad())) + 2 * sizeof(float)) : 0;
    return floats * sizeof(float) + values * sizeof(S) + rows * sizeof(uint32_t) + int8 + 19 * 192;
}

template <class S>
void turn_prompts(const Encoder<S>& e, const Call& call, const TurnedPrompts& to) {
    const int64_t h = e.sizes.hidden, side = call.prompt_rows * h, sides = e.sizes.layers * 2;
    if (!call.prompts) return;
#pragma omp parallel for collapse(2) schedule(static) num_threads((int)call.threads)
    for (int64_t one = 0; one < sides; one++)
        for (int64_t p = 0; p < call.prompts; p++) {
            const int64_t start = call.prompt_starts[p], length = call.prompt_starts[p + 1] - start;
            const float* from = call.table + one * side + start * h;
            if (to.halved) {
                bf16* rows = to.halved + one * side + start * h;
                for (int64_t i = 0; i < length * h; i += W)
                    store_some(rows + i, load_some(from + i, (int)(length * h - i)), (int)(length * h - i));
                continue;
            }
            float* columns = to.turned + one * side + start * h;
            for (int64_t c = 0; c < h; c++)
                for (int64_t i = 0; i < length; i++) columns[c * length + i] = from[i * h + c];
            if (to.plain) std::memcpy(to.plain + one * side + start * h, from, length * h * sizeof(float));
        }
}

template <class S, class Work>
int each_block(const Encoder<S>& e, const Call& call, const Plan& plan, Work work) {
    const size_t bytes = room_bytes(e, plan);
    int failed = FINE;
#pragma omp parallel num_threads((int)call.threads)
    {
        if (arena().grow(bytes)) {
            [[maybe_unused]] Tiles tiles;
#pragma omp for schedule(dynamic, 1)
            for (int i = 0; i < (int)plan.blocks.size(); i++) work(plan.blocks[i], Carver{arena().base});
        } else {
#pragma omp atomic write
            failed = NO_MEMORY;
#pragma omp for schedule(dynamic, 1)
            for (int i = 0; i < (int)plan.blocks.size(); i++) {
            }
        }
    }
    return failed;
}

template <class S>
int run_forward(const Encoder<S>& e, const Call& call) {
    if (!is_sound(e, call)) return OUT_OF_RANGE;
    Plan plan(call);
    Carver saved{(char*)call.saved};
    TurnedPrompts turned(saved, e.sizes, call, is_tiled<S>(e.sizes));
    std::vector<Kept<S>> kept;
    if (call.keep) kept = carve_kept<S>(saved, e.sizes, plan, call);
    if (!call.turned) turn_prompts(e, call, turned);
    std::vector<size_t> none;
    Pass<S> pass{e, e.sizes, call, plan, kept, turned, nullptr, none, nullptr};
    return each_block(e, call, plan, [&](const Block& b, Carver room) { pass.forward(b, room); });
}

// Sum every prompt's slabs in the order of its pieces.
template <class S>
void gather_prompts(const Encoder<S>& e, const Call& call, const Plan& plan, const float* partial,
                    const std::vector<size_t>& slabs) {
    const int64_t h = e.sizes.hidden, side = call.prompt_rows * h, sides = e.sizes.layers * 2;
#pragma omp parallel for schedule(static) num_threads((int)call.threads)
    for (int64_t one = 0; one < sides; one++) {
        std::memset(call.d_table + one * side, 0, side * sizeof(float));
        for (size_t i = 0; i < plan.pieces.size(); i++) {
            const int which = plan.pieces[i].prompt;
            const int64_t start = call.prompt_starts[which], values = (call.prompt_starts[which + 1] - start) * h;
            float* to = call.d_table + one * side + start * h;
            const float* from = partial + slabs[i] + one * values;
            for (int64_t v = 0; v < values; v++) to[v] += from[v];
        }
    }
}

// Every linear's gradient is one thread's work; scales and shifts come from what the blocks summed.
template <class S>
int learn_weights(const Learning<S>& learning) {
    const int parts = learning.parts(), jobs = (int)learning.encoder.own.size() * 4 * parts;
    const size_t bytes = learning.room_bytes();
    int failed = FINE;
#pragma omp parallel num_threads((int)learning.call.threads)
    {
        const bool room = arena().grow(bytes);
        [[maybe_unused]] Tiles tiles;
        if (!room)
#pragma omp atomic write
            failed = NO_MEMORY;
#pragma omp for schedule(dynamic, 1)
        for (int job = 0; job < jobs; job++)
            if (room) learning.gradient(job / 4 / parts, job / parts % 4, job % parts, Carver{arena().base});
    }
    learning.sum_norms();
    return failed;
}

template <class S>
int run_backward(const Encoder<S>& e, const Call& call) {
    if (!is_sound(e, call) || e.sizes.int8) return OUT_OF_RANGE;
    Plan plan(call);
    Carver saved{(char*)call.saved};
    TurnedPrompts turned(saved, e.sizes, call, is_tiled<S>(e.sizes));
    std::vector<Kept<S>> kept = carve_kept<S>(saved, e.sizes, plan, call);
    std::vector<size_t> slabs;
    size_t all = 0;
    const bool prompts = call.d_table && call.prompts;
    if (prompts)
        for (const Piece& piece : plan.pieces) {
            slabs.push_back(all);
            all += (size_t)e.sizes.layers * 2 * e.sizes.hidden *
                   (call.prompt_starts[piece.prompt + 1] - call.prompt_starts[piece.prompt]);
        }
    static thread_local Arena slab_room, norm_room;
    if (!slab_room.grow(all * sizeof(float) + 64)) return NO_MEMORY;
    float* partial = prompts ? (float*)slab_room.base : nullptr;
    Learning<S> learning{e, e.sizes, call, plan, kept, nullptr};
    float* norm_slabs = nullptr;
    if (call.learn) {
        const size_t bytes = plan.blocks.size() * e.sizes.layers * 4 * e.sizes.width() * sizeof(float);
        if (!norm_room.grow(bytes)) return NO_MEMORY;
        learning.norm_slabs = norm_slabs = (float*)norm_room.base;
        std::memset(norm_slabs, 0, bytes);
    }
    Pass<S> pass{e, e.sizes, call, plan, kept, turned, partial, slabs, norm_slabs};
    int failed = each_block(e, call, plan, [&](const Block& b, Carver room) {
        for (int i = b.first_piece; prompts && i < b.last_piece; i++) {
            size_t end = i + 1 < (int)slabs.size() ? slabs[i + 1] : all;
            std::memset(partial + slabs[i], 0, (end - slabs[i]) * sizeof(float));
        }
        pass.backward(b, room);
    });
    if (prompts && !failed) gather_prompts(e, call, plan, partial, slabs);
    if (call.learn && !failed) failed = learn_weights(learning);
    return failed;
}

// One of a layer's four linears, as it is given.
Given given(const Sizes& z, const float* const* values, int linear) {
    const int out = linear == 2 ? z.wide : z.hidden, in = linear == 3 ? z.wide : z.hidden;
    return {values[2 * linear], linear == 0 ? 3 : 1, out, in};
}

template <class S>
Linear<S>& linear_of(Layer<S>& layer, int linear) {
    Linear<S>* all[] = {&layer.qkv, &layer.attended, &layer.wide, &layer.narrow};
    return *all[linear];
}

template <class S>
void put_norms(Layer<S>& layer, int hidden, const float* const* values) {
    std::vector<float>* all[] = {&layer.attended_scale, &layer.attended_shift, &layer.narrow_scale,
                                 &layer.narrow_shift};
    for (int i = 0; i < 4; i++) all[i]->assign(values[8 + i], values[8 + i] + hidden);
}

template <class S>
int put_layers(Encoder<S>& e, int first, int count, const float* const* values, bool backward, int threads) {
    if ((int)e.own.size() < first + count) e.own.resize(first + count);
    Layer<S>* own = e.own.data() + first;
    for (int i = 0; i < count * 4; i++) {
        const Given from = given(e.sizes, values + i / 4 * 12, i % 4);
        Linear<S>& to = linear_of(own[i / 4], i % 4);
        const bool there = e.sizes.int8 ? make_room(from, to.int8, e.memory) : make_room(from, backward, to, e.memory);
        if (!there) return NO_MEMORY;
    }
    for (int i = 0; i < count; i++) put_norms(own[i], e.sizes.hidden, values + i * 12);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int i = 0; i < count * 4; i++) {
        const float* const* of = values + i / 4 * 12;
        const Given from = given(e.sizes, of, i % 4);
        Linear<S>& to = linear_of(own[i / 4], i % 4);
        const float* bias = of[2 * (i % 4) + 1];
        if (e.sizes.int8)
            pack_int8(from, bias, to);
        else if (backward)
            pack_backward(from, to);
        else
            pack_forward(from, bias, to);
    }
    return FINE;
}

template <class S>
void put_embeddings(Encoder<S>& e, const int64_t* sizes, const void* words, const void* types, const void* positions,
                    const float* scale, const float* shift) {
    e.vocabulary = sizes[0], e.kinds = sizes[1], e.places = sizes[2];
    e.words = (const S*)words, e.types = (const S*)types, e.positions = (const S*)positions;
    e.embedded_scale.assign(scale, scale + e.sizes.hidden), e.embedded_shift.assign(shift, shift + e.sizes.hidden);
}

template <class S, class P>
int run_causal(const CausalCall& call, bool backward) {
    const int width = up((int)call.width, P::DEPTHS);
    const CausalPlan plan(call, width, backward);
    const int heads = (int)call.key_heads, jobs = (int)plan.tasks.size() * heads;
    const size_t bytes = std::max(CausalHead<S, P>::bytes(call, plan, backward), (2 * SUMMED + 1) * width * sizeof(float));
    static thread_local Arena slab_room;
    if (!slab_room.grow(plan.slabs * sizeof(float) + 64)) return NO_MEMORY;
    float* slabs = (float*)slab_room.base;
    int failed = FINE;
#pragma omp parallel num_threads((int)call.threads)
    {
        const bool room = arena().grow(bytes);
        [[maybe_unused]] typename P::Tiles tiles;
        if (!room)
#pragma omp atomic write
            failed = NO_MEMORY;
#pragma omp for schedule(dynamic, 1)
        for (int job = 0; job < jobs; job++) {
            if (!room) continue;
            CausalHead<S, P> work(call, plan.tasks[job / heads], job % heads, backward, Carver{arena().base});
            backward ? work.backward(slabs) : work.forward();
        }
        for (int source = 0; backward && source < SOURCES; source++) {
            const KeySource& to = call.sources[source];
            const int64_t parts = to.d_keys ? (to.rows + SUMMED - 1) / SUMMED * heads : 0;
#pragma omp for schedule(dynamic, 1)
            for (int64_t part = 0; part < parts; part++) {
                if (!room) continue;
                const int64_t first = part / heads * SUMMED, last = std::min(to.rows, first + SUMMED);
                (to.half ? sum_keys<S, P, bf16> : sum_keys<S, P, float>)(call, plan, source, first, last,
                                                                         (int)(part % heads), slabs,
                                                                         (float*)arena().base);
            }
        }
    }
    return failed;
}

template <class S>
int run_product(const ProductCall& call) {
    const ProductPlan plan(call);
    const size_t bytes = Product<S>::bytes(call, plan);
    int failed = FINE;
#pragma omp parallel num_threads((int)call.threads)
    {
        const bool room = arena().grow(bytes);
        Tiles tiles;
        if (!room)
#pragma omp atomic write
            failed = NO_MEMORY;
#pragma omp for schedule(static)
        for (int64_t job = 0; job < plan.groups * plan.parts; job++) {
            if (!room) continue;
            const int64_t column = job % plan.groups * plan.wide, first = job / plan.groups * plan.high;
            const int wide = (int)std::min<int64_t>(plan.wide, call.columns - column);
            Product<S>(call, plan, arena().base).part(column, wide, first, std::min(call.rows, first + plan.high));
        }
    }
    return failed;
}

}  // namespace

extern "C" {

int pg_version() { return 8; }

// `half`: stored in bf16; `int8`: products in whole numbers, for passes without gradient.
Handle* pg_new(int half, int int8, int hidden, int heads, int wide, int activation, float epsilon) {
    if (((half || int8) && !may_use_tiles()) || (int8 && !HAS_INT8)) return nullptr;
    Handle* h = new (std::nothrow) Handle();
    if (!h) return nullptr;
    h->half = half;
    h->full.sizes = h->halved.sizes = Sizes{hidden, heads, wide, 0, activation, int8 != 0, epsilon};
    return h;
}

void pg_free(Handle* h) { delete h; }

// Layers with weights of their own, for one direction: a pass without a backward does not need the other. Twelve arrays
// of fp32 each: weight and bias of query-key-value, attended, wide, narrow; scale and shift of two norms. What was put
// before is written over.
int pg_layers(Handle* h, int first, int count, const float* const* values, int backward, int threads) {
    return h->half ? put_layers(h->halved, first, count, values, backward, threads)
                   : put_layers(h->full, first, count, values, backward, threads);
}

// The next turn uses a layer that was put before.
void pg_turn(Handle* h, int layer) {
    h->full.order.push_back(layer), h->halved.order.push_back(layer);
    h->full.sizes.layers++, h->halved.sizes.layers++;
}

// Rows of the three tables, the tables, which stay the caller's, and their norm's scale and shift.
void pg_embeddings(Handle* h, const int64_t* sizes, const void* words, const void* types, const void* positions,
                   const float* scale, const float* shift) {
    if (h->half)
        put_embeddings(h->halved, sizes, words, types, positions, scale, shift);
    else
        put_embeddings(h->full, sizes, words, types, positions, scale, shift);
}

int64_t pg_saved_bytes(const Handle* h, const Call* call) {
    return h->half ? saved_bytes(h->halved, *call) : saved_bytes(h->full, *call);
}

// Causal attention, or its backward.
int pg_causal(const CausalCall* call, int backward) {
    if (!is_sound(*call)) return OUT_OF_RANGE;
    if (!call->half) return run_causal<float, PlainProducts>(*call, backward);
#if defined(__AMX_BF16__)
    static const bool tiles = may_use_tiles();
    if (tiles) return run_causal<bf16, TiledProducts>(*call, backward);
#endif
    return run_causal<bf16, PlainProducts>(*call, backward);
}

// Rows over the root of their mean square; with `slopes` the rows' gradients. `scales`: what each row is multiplied by,
// written forward where it is not null, and read backward.
void pg_root_mean_square(int half, const void* x, const void* weight, int64_t rows, int width, float epsilon,
                         int64_t threads, float* scales, const void* slopes, void* to) {
    (half ? root_mean_square<bf16> : root_mean_square<float>)(x, weight, rows, width, epsilon, threads, scales, slopes,
                                                              to);
}

// The gated halves of rows, of `width` each; with `slopes` the rows' gradients.
void pg_gate(int half, int activation, const void* x, int64_t rows, int width, int64_t threads, const void* slopes,
             void* to) {
    (half ? gate<bf16> : gate<float>)(activation, x, rows, width, threads, slopes, to);
}

// Rows times a weight: in fp32, or in bf16 on tiles.
int pg_product(const ProductCall* call) {
    if (call->rows < 1 || call->threads < 1 || call->columns % COLUMNS || call->depth % COLUMNS) return OUT_OF_RANGE;
    if (!call->half) return run_product<float>(*call);
#if defined(__AMX_BF16__)
    static const bool tiles = may_use_tiles();
    if (tiles) return run_product<bf16>(*call);
#endif
    return NO_TILES;
}

int pg_forward(const Handle* h, const Call* call) {
    return h->half ? run_forward(h->halved, *call) : run_forward(h->full, *call);
}

int pg_backward(const Handle* h, const Call* call) {
    return h->half ? run_backward(h->halved, *call) : run_backward(h->full, *call);
}

}  // extern "C"
