// How a grouped GEMM is cut into tasks: one queue over all groups instead of one parallel region a group.
//
// A group is a run of rows that share a tower. Its B is cut into panels of kTileCols columns, which are packed once
// into the workspace and shared by all threads. A wave is as many panels as fit there, of up to kWaveGroups groups; it
// takes two parallel regions: pack, then multiply.
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
  float* packed;                   // where they are shared; nullptr: every task packs its own
  int64_t rows;                    // of C
  int64_t block_rows, row_blocks;
  int64_t block_panels, column_blocks;

  int64_t panels() const { return panel_end - panel_begin; }
  int64_t blocks() const { return row_blocks * column_blocks; }
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

  // Cuts every group into blocks of at most max_block_rows rows. Where those are too few to keep the threads busy to
  // the end, the blocks get smaller, down to min_block_rows, then they are cut by columns too, so that blocks of A are
  // packed again as seldom as may be.
  void cut(int64_t min_block_rows, int64_t max_block_rows, int threads) {
    int64_t rows = 0, row_blocks = 0;
    for (int i = 0; i < count; i++) rows += groups[i].rows;
    if (threads > 1)
      max_block_rows = min_of(max_block_rows, max_of(min_block_rows, rows / (kBlocksPerThread * threads)));
    for (int i = 0; i < count; i++) row_blocks += ceil_div(groups[i].rows, max_block_rows);
    int64_t wanted = ceil_div(int64_t{kLeastBlocksPerThread} * threads, max_of(row_blocks, 1));
    for (int i = 0; i < count; i++) {
      WaveGroup& g = groups[i];
      g.row_blocks = ceil_div(g.rows, max_block_rows);
      g.block_rows = round_up(ceil_div(g.rows, g.row_blocks), kTileRows);
      g.row_blocks = ceil_div(g.rows, g.block_rows);
      g.block_panels = ceil_div(g.panels(), min_of(threads > 1 ? wanted : 1, g.panels()));
      g.column_blocks = ceil_div(g.panels(), g.block_panels);
    }
  }

  int64_t blocks() const {
    int64_t sum = 0;
    for (int i = 0; i < count; i++) sum += groups[i].blocks();
    return sum;
  }

 private:
  static constexpr int kBlocksPerThread = 6, kLeastBlocksPerThread = 3;
};

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
