// How a grouped GEMM is cut into tasks: one queue over all groups instead of one parallel region a group.
//
// A group is a run of rows that share a tower. Its B is cut into panels of kTileCols columns, which are packed once
// into the workspace and shared by all threads, as is A where the job wants it. A wave is as many panels as fit there,
// of up to kWaveGroups groups; it takes two parallel regions: pack, then multiply.
#pragma once
#include "cpu/isa/pack.h"
#include "ops/types.h"

namespace mot {
namespace MOT_ISA_NAMESPACE {

// Rows [begin, end) of one tower.
struct Group {
  int64_t begin, end;
  int32_t tower;
};

// Walks the segments: leaves out empty ones, joins neighbours of one tower, cuts groups into at most max_rows rows.
class GroupCursor {
 public:
  GroupCursor(const Segments& segments, int64_t max_rows) : segments_(segments), max_rows_(max_rows) { advance(); }

  bool done() const { return group_.begin == group_.end; }
  const Group& group() const { return group_; }

  void advance() {
    if (rest_.begin == rest_.end) {
      while (next_ < segments_.count && segments_.data[next_].begin == segments_.data[next_].end) next_++;
      if (next_ == segments_.count) {
        group_.begin = group_.end = 0;
        return;
      }
      const Segment& first = segments_.data[next_++];
      rest_ = {first.begin, first.end, first.tower};
      for (; next_ < segments_.count; next_++) {
        const Segment& segment = segments_.data[next_];
        bool joins = segment.begin == segment.end || (segment.tower == rest_.tower && segment.begin == rest_.end);
        if (!joins) break;
        if (segment.begin != segment.end) rest_.end = segment.end;
      }
    }
    group_ = {rest_.begin, rest_.begin + min_of(rest_.end - rest_.begin, max_rows_), rest_.tower};
    rest_.begin = group_.end;
  }

 private:
  Segments segments_;
  int64_t max_rows_;
  int64_t next_ = 0;
  Group rest_ = {0, 0, 0};
  Group group_ = {0, 0, 0};
};

// The share of a group that is in a wave, and its cut into blocks of C.
struct WaveGroup {
  Group group;
  int64_t panel_begin, panel_end;  // panels of B in this wave
  float* b;                        // where they are shared; nullptr: every task packs its own
  float* a;                        // where A is shared, for jobs that do
  int64_t rows;                    // of C
  int64_t row_blocks, column_blocks;

  int64_t panels() const { return panel_end - panel_begin; }
  int64_t tiles() const { return ceil_div(rows, kTileRows); }
  int64_t blocks() const { return row_blocks * column_blocks; }

  // Where a block begins, and the one before ends; they differ by at most one tile and one panel.
  int64_t first_row(int64_t row_block) const { return min_of(row_block * tiles() / row_blocks * kTileRows, rows); }
  int64_t first_panel(int64_t column_block) const { return panel_begin + column_block * panels() / column_blocks; }
};

// Bounds of the blocks that C is cut into.
struct BlockLimits {
  int64_t min_rows, max_rows;  // of a block; multiples of kTileRows
  int64_t column_blocks;       // at least so many with several threads; one thread does not cut by columns
};

static constexpr int kWaveGroups = 64;

struct Wave {
  WaveGroup groups[kWaveGroups];
  int count = 0;

  bool has_tower(int32_t tower) const {
    for (int i = 0; i < count; i++)
      if (groups[i].group.tower == tower) return true;
    return false;
  }

  // Cuts every group into blocks. Where those of max_rows are too few to keep the threads busy to the end, they get
  // smaller, down to about min_rows, then they are cut by columns too, so that blocks of A are packed again as seldom
  // as may be.
  void cut(const BlockLimits& limits, int threads) {
    int64_t rows = 0, row_blocks = 0, max_rows = limits.max_rows;
    for (int i = 0; i < count; i++) rows += groups[i].rows;
    if (threads > 1) max_rows = min_of(max_rows, max_of(limits.min_rows, rows / (kBlocksPerThread * threads)));
    for (int i = 0; i < count; i++) {
      WaveGroup& g = groups[i];
      g.row_blocks = ceil_div(g.tiles(), max_rows / kTileRows);
      // As many for every thread, unless that leaves blocks a fifth under min_rows.
      int64_t even = round_up(g.row_blocks, threads);
      if (5 * g.rows >= 4 * even * limits.min_rows) g.row_blocks = even;
      row_blocks += g.row_blocks;
    }
    const int64_t least_blocks = (rows <= kTileRows ? kLeastBlocksOfFewRows : kLeastBlocksPerThread) * threads;
    int64_t column_blocks = max_of(limits.column_blocks, ceil_div(least_blocks, row_blocks));
    for (int i = 0; i < count; i++)
      groups[i].column_blocks = threads > 1 ? min_of(column_blocks, groups[i].panels()) : 1;
  }

  int64_t blocks() const {
    int64_t sum = 0;
    for (int i = 0; i < count; i++) sum += groups[i].blocks();
    return sum;
  }

 private:
  static constexpr int64_t kBlocksPerThread = 6, kLeastBlocksPerThread = 8;
  // With a few rows, reading B is the work: the longer the pieces, the less often it has to start anew.
  static constexpr int64_t kLeastBlocksOfFewRows = 2;
};

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
