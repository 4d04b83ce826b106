// Which query of packed rows sees which keys, as Python gives it, and how that is cut into tasks for threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "gemm.h"

namespace pg {

constexpr int SOURCES = 3;
constexpr int WIDEST = 1024;  // of a head
constexpr int64_t STACKED = 384, LEAST_STACKED = 48;  // stacked queries of a task: heads of one head of keys, by rows
constexpr int64_t TASKS = 48;                         // tasks that are aimed at where queries are few
constexpr int64_t SLAB_FLOATS = 16 << 20;             // of gradients of keys that several tasks may hold at once

// Keys and values of heads, rows `stride` and heads `apart` values from each other; their gradients stand alike.
struct KeySource {
    const void *keys, *values;
    int64_t rows, stride, apart, half;  // half: in bf16
    const void *cosine, *sine;     // [rows, width / 2]: keys are turned when they are read; null: they come turned
    const int64_t* places;         // of every row in its sequence; null: every query sees it, however far away
    void *d_keys, *d_values;       // null where they are not wanted

    size_t start(int64_t row, int head) const { return row * stride + head * apart; }
};

// The call as Python fills it in; pointers it has no use for are null. Queries, outputs and turns are in one dtype.
struct CausalCall {
    int64_t queries, heads, key_heads, width, half, window, threads, ranges;
    double scale;
    const void *query, *cosine, *sine;  // [queries, heads, width] and [queries, width / 2]
    const int64_t *query_places, *seen; // seen: source, whether causal, first query, end, first key, end, a range each
    void* out;
    float* norms;  // [queries, heads]: the logarithm of what a query's exponentials sum to
    const void* d_out;
    void* d_query;
    KeySource sources[SOURCES];

    int group() const { return (int)(heads / key_heads); }
};

// A range of queries that sees a range of keys, which have places one after the other.
struct Seen {
    int source;
    bool causal;
    int64_t first, last, key, end;
    size_t slab = 0;  // where the gradients of its keys are held until they are summed

    int64_t keys() const { return end - key; }

    // A place among the range's keys as a number of them, for a query at that place.
    int64_t number(const KeySource& from, int64_t place) const { return place - from.places[key]; }

    // The keys that a query sees: [least, most) of the range's.
    void bounds(const CausalCall& call, int64_t query, int& least, int& most) const {
        const KeySource& from = call.sources[source];
        least = 0, most = (int)keys();
        if (!from.places) return;
        const int64_t own = number(from, call.query_places[query]);
        if (causal) most = (int)std::max<int64_t>(0, std::min<int64_t>(most, own + 1));
        if (call.window) least = (int)std::max<int64_t>(0, std::min<int64_t>(most, own - call.window + 1));
    }
};

// So many queries in a row, which one thread attends for, a head of keys at a time.
struct QueryTask {
    int64_t first, last;
    std::vector<Seen> seen;
};

inline bool is_sound(const CausalCall& call) {
    if (call.queries < 1 || call.threads < 1 || call.key_heads < 1 || call.heads % call.key_heads) return false;
    if (call.width < 1 || call.width > WIDEST) return false;
    for (const KeySource& from : call.sources)
        if (from.cosine && from.half != call.half) return false;
    for (int64_t i = 0; i < call.ranges; i++) {
        const int64_t* r = call.seen + 6 * i;
        if (r[0] < 0 || r[0] >= SOURCES || r[2] < 0 || r[3] > call.queries || r[2] >= r[3]) return false;
        const KeySource& from = call.sources[r[0]];
        if (r[4] < 0 || r[5] > from.rows || r[4] >= r[5] || !from.keys || (r[1] && !from.places)) return false;
        if (from.places && from.places[r[5] - 1] - from.places[r[4]] != r[5] - 1 - r[4]) return false;
    }
    return true;
}

struct CausalPlan {
    std::vector<QueryTask> tasks;
    size_t slabs = 0;  // floats of all gradients that are held
    int64_t most_queries = 0;

    // `width`: of a head's rows among the slabs. Tasks do not depend on the number of threads, so sums do not either.
    CausalPlan(const CausalCall& call, int width, bool backward) {
        const int64_t group = call.group(), all = call.queries * call.heads;
        int64_t most = std::min(STACKED, std::max(LEAST_STACKED, all / TASKS)) / group;
        for (most = std::max<int64_t>(1, most);; most *= 2) {
            cut(call, most);
            share(call);
            if (!backward) return;
            lay_slabs(call, width);
            if (slabs <= (size_t)SLAB_FLOATS || tasks.size() == 1) return;
        }
    }

  private:
    // Tasks of about `most` queries that end where a range does, so that few keys are read for two of them.
    void cut(const CausalCall& call, int64_t most) {
        std::vector<int64_t> begins = {call.queries};
        for (int64_t i = 0; i < call.ranges; i++) begins.push_back(call.seen[6 * i + 2]);
        std::sort(begins.begin(), begins.end());
        tasks.clear(), most_queries = 0;
        for (int64_t first = 0, last; first < call.queries; first = last) {
            const auto after = std::upper_bound(begins.begin(), begins.end(), first + most);
            last = after == begins.begin() ? 0 : *(after - 1);
            if (last <= first) last = *after;
            if (last - first > 2 * most) last = first + most;
            tasks.push_back({first, last, {}});
            most_queries = std::max(most_queries, last - first);
        }
    }

    void share(const CausalCall& call) {
        for (int64_t i = 0; i < call.ranges; i++) {
            const int64_t* r = call.seen + 6 * i;
            auto after = [](int64_t query, const QueryTask& task) { return query < task.last; };
            auto task = std::upper_bound(tasks.begin(), tasks.end(), r[2], after);
            for (; task != tasks.end() && task->first < r[3]; task++) {
                Seen seen = {(int)r[0], r[1] != 0, std::max(r[2], task->first), std::min(r[3], task->last), r[4], r[5]};
                int least = (int)seen.keys(), most = 0, lower, upper;
                for (int64_t query = seen.first; query < seen.last; query++) {
                    seen.bounds(call, query, lower, upper);
                    least = std::min(least, lower), most = std::max(most, upper);
                }
                seen.end = seen.key + most, seen.key += least;
                if (seen.key < seen.end) task->seen.push_back(seen);
            }
        }
    }

    void lay_slabs(const CausalCall& call, int width) {
        slabs = 0;
        for (QueryTask& task : tasks)
            for (Seen& seen : task.seen) {
                if (!call.sources[seen.source].d_keys) continue;
                seen.slab = slabs;
                slabs += 2 * (size_t)up((int)seen.keys(), ROWS) * width * call.key_heads;
            }
    }
};

}  // namespace pg
