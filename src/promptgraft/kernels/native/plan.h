// How a batch is cut up: pieces of one prompt's sequences, whose gradients are summed apart, and blocks of pieces,
// each of which one thread takes through all layers while its activations stay in the cache.
#pragma once

#include <cstdint>
#include <vector>

#include "gemm.h"

namespace pg {

constexpr int PIECE_TOKENS = 128;  // sums of a prompt's gradient are kept for about this many tokens each
constexpr int BLOCK_TOKENS = 512;  // the widest activations of so many tokens fill about a MiB

// The call as Python fills it in; pointers it has no use for are null.
struct Call {
    int64_t sequences, prompts, prompt_rows, threads, read_first, keep, want_input;
    int64_t learn, drop_below, drop_narrow;  // whether weights learn; dropout of `drop_below` / 2^32
    int64_t turned;                          // whether `saved` holds the turned prompts of this table already
    const int64_t *starts, *ids, *types, *positions;
    const float* input;
    const int64_t *prompt_of, *prompt_starts, *drop_keys;
    const float* table;
    void* saved;
    float* output;
    const float* d_output;
    float *d_table, *d_input;
    float* const* d_weights;  // twelve arrays a layer, as in `pg_layer`

    int tokens(int first, int last) const { return (int)(starts[last] - starts[first]); }
    int prompt(int sequence) const { return prompt_of ? (int)prompt_of[sequence] : -1; }
};

struct Piece {
    int first, last, prompt;  // sequences first to last - 1
};

struct Block {
    int first_piece, last_piece, first, last;  // pieces, sequences
    int rows, reads;                           // padded to ROWS
    int64_t row, read;                         // where they begin among all blocks' padded rows
};

struct Plan {
    std::vector<Piece> pieces;
    std::vector<Block> blocks;
    int64_t rows = 0, reads = 0;
    int longest = 0, longest_prompt = 0, most_rows = 0, most_reads = 0;

    explicit Plan(const Call& call) {
        cut_pieces(call);
        cut_blocks(call);
    }

  private:
    // A prompt's sequences are cut by their own lengths alone, so that what else is in the batch, and how many
    // threads there are, cannot change the order in which its gradient is summed.
    void cut_pieces(const Call& call) {
        int sequences = (int)call.sequences;
        for (int first = 0, last; first < sequences; first = last) {
            for (last = first + 1; last < sequences && call.prompt(last) == call.prompt(first);) last++;
            int tokens = call.tokens(first, last), parts = (tokens + PIECE_TOKENS - 1) / PIECE_TOKENS;
            if (parts > 1) parts += parts % 2;
            for (int part = 1, begin = first; begin < last; part++) {
                int end = begin + 1;
                while (end < last &&
                       (part >= parts || (int64_t)call.tokens(first, end) * parts < (int64_t)tokens * part))
                    end++;
                pieces.push_back({begin, end, call.prompt(first)});
                begin = end;
            }
        }
        for (int i = 0; i < sequences; i++) longest = std::max(longest, call.tokens(i, i + 1));
        for (int i = 0; i < call.prompts; i++)
            longest_prompt = std::max(longest_prompt, (int)(call.prompt_starts[i + 1] - call.prompt_starts[i]));
    }

    void cut_blocks(const Call& call) {
        int64_t all = call.starts[call.sequences], threads = std::max<int64_t>(1, call.threads);
        int64_t count = threads * ((all + threads * BLOCK_TOKENS - 1) / (threads * BLOCK_TOKENS));
        for (size_t first = 0, last; first < pieces.size(); first = last) {
            last = first + 1;
            int64_t part = (int64_t)blocks.size() + 1;
            auto middle = [&](size_t i) { return call.starts[pieces[i].first] + call.starts[pieces[i].last]; };
            while (last < pieces.size() && middle(last) * count < 2 * all * part) last++;
            Block block;
            block.first_piece = (int)first, block.last_piece = (int)last;
            block.first = pieces[first].first, block.last = pieces[last - 1].last;
            block.rows = up(call.tokens(block.first, block.last), ROWS);
            block.reads = call.read_first ? up(block.last - block.first, ROWS) : block.rows;
            block.row = rows, block.read = reads;
            rows += block.rows, reads += block.reads;
            most_rows = std::max(most_rows, block.rows), most_reads = std::max(most_reads, block.reads);
            blocks.push_back(block);
        }
    }
};

}  // namespace pg
