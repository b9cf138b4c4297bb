#include "cpu/isa/gemm.h"

#include <cassert>

#include "core/thread_team.h"
#include "cpu/isa/gemm_few_rows.h"
#include "cpu/isa/waves.h"

namespace mot {
namespace MOT_ISA_NAMESPACE {

namespace {

// Shared packed panels. More than this would leave the last-level cache and save nothing: panels are packed once for
// all rows either way.
constexpr int64_t kPackedBytes = int64_t{16} << 20;
// A block of A in packed form: half of a 1 MiB L2 cache, the other half is for the panel of B.
constexpr int64_t kBlockBytes = int64_t{512} << 10;
constexpr int64_t kMaxBlockRows = 24 * kTileRows;
// Tiles of a block of A, however deep the reduction. With narrow panels, which a block of few rows goes through
// quickly, waiting for the next panel costs more than a block that leaves the cache.
constexpr int64_t kMinBlockTiles = kWidth == 16 ? 4 : 18;
// Fewer would have a panel of B wait for the last-level cache.
constexpr int64_t kMinBlockRows = 12 * kTileRows;
// Rows of one group in gemm_gradient; a multiple of every block depth. Bounds the size of a panel.
constexpr int64_t kMaxGradientRows = 8192;

constexpr int64_t kTileFloats = kTileRows * kTileCols;
constexpr int64_t kPanelBlockFloats = kBlockDepth * kTileCols;

// Steps of the reduction by which a panel of B is fetched into L1 ahead of its use.
constexpr int64_t kPrefetchSteps = kWidth == 8 ? 64 : 0;

// Off the powers of two, since the rows of a tile are read side by side: with one vector of padding they share few sets
// of the cache, with five lines more than a multiple of sixteen none.
int64_t a_stride(int64_t units) {
  constexpr int64_t kPeriod = 16 * kLine, kOffset = 5 * kLine;
  if (kWidth == 8) return round_up(max_of(units - kOffset, 0), kPeriod) + kOffset;
  return round_up(units, kWidth) + kWidth;
}

int64_t max_block_rows(int64_t units) {
  int64_t tiles = kBlockBytes / (4 * a_stride(units) * kTileRows);
  return min_of(max_of(tiles, kMinBlockTiles) * kTileRows, kMaxBlockRows);
}

// What gemm_rows keeps for each worker: a block of A with its whole reduction, a panel block of B, the sums of a block
// of rows by one panel. gemm_gradient uses the same memory.
int64_t a_block_floats(int64_t units) {
  // pack_a_columns stores beyond the end.
  return max_of(kBlockBytes / 4, kMinBlockTiles * kTileRows * a_stride(units)) + 2 * kWidth;
}

int64_t worker_floats(int64_t units) {
  return round_up(a_block_floats(units), 16) + kPanelBlockFloats + kMaxBlockRows * kTileCols;
}

struct WorkerScratch {
  float* a;
  float* panel;
  float* tiles;
};

// The workspace: a scratch for each worker, then the shared panels.
struct Workspace {
  Workspace(const Context& context, int64_t units) {
    worker_floats_ = worker_floats(units);
    base_ = static_cast<float*>(context.workspace);
    int64_t floats = context.workspace_bytes / 4;
    threads = static_cast<int>(min_of(context.threads, floats / worker_floats_));
    assert(threads >= 1);
    a_floats_ = round_up(a_block_floats(units), 16);
    packed = base_ + threads * worker_floats_;
    packed_floats = min_of(floats - threads * worker_floats_, kPackedBytes / 4);
  }

  WorkerScratch worker(int index) const {
    float* a = base_ + index * worker_floats_;
    return {a, a + a_floats_, a + a_floats_ + kPanelBlockFloats};
  }

  int threads;
  float* packed;
  int64_t packed_floats;

 private:
  float* base_;
  int64_t worker_floats_, a_floats_;
};

// tile = A B, or += . `a` steps by units within a row (kARows) or by tiles' columns; see pack.h.
template <class Operand, bool kARows>
inline void multiply_tile(const float* a, int64_t stride, const float* b, int64_t depth, float* tile, bool add) {
  Vec sum[kTileRows][kTileVecs] = {};
  for (int64_t k = 0; k < depth; k++) {
    Vec column[kTileVecs];
    MOT_UNROLL
    for (int v = 0; v < kTileVecs; v++) column[v] = load(b + v * kWidth);
    if constexpr (kPrefetchSteps > 0) __builtin_prefetch(b + kPrefetchSteps * kTileCols);
    b += kTileCols;
    MOT_UNROLL
    for (int i = 0; i < kTileRows; i++) {
      Vec row = broadcast_unit(kARows ? a + i * stride : a + i);
      MOT_UNROLL
      for (int v = 0; v < kTileVecs; v++) sum[i][v] = Operand::multiply_add(sum[i][v], row, column[v]);
    }
    a += kARows ? 1 : kTileRows;
  }
  MOT_UNROLL
  for (int i = 0; i < kTileRows; i++) {
    MOT_UNROLL
    for (int v = 0; v < kTileVecs; v++) {
      float* to = tile + i * kTileCols + v * kWidth;
      store(to, add ? load(to) + sum[i][v] : sum[i][v]);
    }
  }
}

// out = tile (+ addend), the first `columns` columns of `rows` rows.
template <class T>
void store_tile(const float* tile, int64_t rows, int64_t columns, const float* addend, int64_t addend_stride, T* out,
                int64_t out_stride) {
  for (int64_t i = 0; i < rows; i++, tile += kTileCols, out += out_stride) {
    for (int64_t j = 0; j < columns; j += kWidth) {
      int64_t n = columns - j;
      Vec v = load(tile + j);
      if (addend) v = v + load_upto(addend + i * addend_stride + j, n);
      if (n >= kWidth)
        store(out + j, v);
      else
        store_n(out + j, v, n);
    }
  }
}

void prefetch_rows(const void* data, int64_t stride_bytes, int64_t rows, int64_t bytes) {
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < bytes; j += 64)
      __builtin_prefetch(static_cast<const char*>(data) + i * stride_bytes + j, 1);
}

// Brings rows of a matrix that are needed next into the L2 cache, a few lines at a time beside other work.
class RowsPrefetch {
 public:
  // `rows` rows of `bytes` bytes; `steps` calls of step() are to come.
  RowsPrefetch(const void* data, int64_t stride_bytes, int64_t rows, int64_t bytes, int64_t steps)
      : row_(static_cast<const char*>(data)),
        stride_(stride_bytes),
        rows_left_(rows),
        bytes_(bytes),
        rows_a_step_(ceil_div(rows, max_of(steps, 1))) {}

  void step() {
    for (int64_t i = 0; i < rows_a_step_ && rows_left_ > 0; i++, rows_left_--, row_ += stride_)
      for (int64_t j = 0; j < bytes_; j += 64) __builtin_prefetch(row_ + j, 0, 2);
  }

 private:
  const char* row_;
  int64_t stride_, rows_left_, bytes_, rows_a_step_;
};

template <class T>
T* row_of(const Matrix& m, int64_t row) {
  return static_cast<T*>(m.data) + row * m.stride;
}

// One wave of `job`: the shared panels, then all blocks.
template <class Job>
void run_wave(const Job& job, const Wave& wave, const Workspace& workspace) {
  int64_t pack_tasks = 0;
  for (int i = 0; i < wave.count; i++)
    if (wave.groups[i].packed) pack_tasks += wave.groups[i].panels() * ceil_div(job.units(wave.groups[i]), kBlockDepth);
  parallel_for(workspace.threads, pack_tasks, [&](int64_t task, int) {
    for (const WaveGroup* g = wave.groups;; g++) {
      int64_t depth_blocks = ceil_div(job.units(*g), kBlockDepth), tasks = g->packed ? g->panels() * depth_blocks : 0;
      if (task < tasks) {
        int64_t panel = task / depth_blocks, first_unit = task % depth_blocks * kBlockDepth;
        job.pack_panel(*g, g->panel_begin + panel, first_unit,
                       g->packed + (panel * job.units(*g) + first_unit) * kTileCols);
        return;
      }
      task -= tasks;
    }
  });
  parallel_for(workspace.threads, wave.blocks(), [&](int64_t task, int worker) {
    const WaveGroup* g = wave.groups;
    for (; task >= g->blocks(); g++) task -= g->blocks();
    int64_t first_row = task / g->column_blocks * g->block_rows;
    int64_t first_panel = g->panel_begin + task % g->column_blocks * g->block_panels;
    job.multiply_block(*g, first_row, min_of(g->block_rows, g->rows - first_row), first_panel,
                       min_of(first_panel + g->block_panels, g->panel_end), workspace.worker(worker));
  });
}

template <class Job>
void run_waves(const Job& job, const Segments& segments, int64_t max_group_rows, int64_t min_rows_of_block,
               int64_t max_rows_of_block, const Workspace& workspace) {
  int64_t panels = job.panels(), panel = 0;
  GroupCursor cursor(segments, max_group_rows);
  while (!cursor.done()) {
    Wave wave;
    float* packed = workspace.packed;
    int64_t left = workspace.packed_floats;
    while (!cursor.done() && wave.count < kWaveGroups) {
      WaveGroup& g = wave.groups[wave.count];
      g.group = cursor.group();
      if (Job::kOneGroupOfATower && wave.has_tower(g.group.tower)) break;
      g.rows = job.rows(g);
      g.panel_begin = panel;
      int64_t panel_floats = job.units(g) * kTileCols, fit = min_of(left / panel_floats, panels - panel);
      if (job.tasks_pack(g, workspace.packed_floats)) {
        g.packed = nullptr;
        fit = panels - panel;
      } else if (fit > 0) {
        g.packed = packed;
        packed += fit * panel_floats;
        left -= fit * panel_floats;
      } else {
        break;
      }
      wave.count++;
      g.panel_end = panel = panel + fit;
      if (panel < panels) break;
      panel = 0;
      cursor.advance();
    }
    assert(wave.count > 0);
    wave.cut(min_rows_of_block, max_rows_of_block, workspace.threads);
    run_wave(job, wave, workspace);
  }
}

template <class Operand>
struct RowsJob {
  static constexpr bool kOneGroupOfATower = false;
  const RowsGemm& gemm;

  int64_t depth() const { return gemm.a.cols; }
  int64_t units(const WaveGroup&) const { return ceil_div(depth(), Operand::kDepth); }
  int64_t panels() const { return ceil_div(gemm.c.cols, kTileCols); }
  int64_t rows(const WaveGroup& g) const { return g.group.end - g.group.begin; }

  // With a single block of rows every panel is used once: each task packs its panels, which then never leave its cache.
  bool tasks_pack(const WaveGroup& g, int64_t packed_floats) const {
    return g.rows <= max_block_rows(units(g)) || packed_floats < units(g) * kTileCols;
  }

  // A group of a few rows reads a weight [C, K] where it lies: panels of whole vectors, which it needs once.
  bool reads_weight(const WaveGroup& g, int64_t panel) const {
    return gemm.weight_transposed && g.rows <= kTileRows && (panel + 1) * kTileCols <= gemm.c.cols;
  }

  // The steps of the reduction in the block that begins at `first_unit`.
  int64_t depth_of_block(int64_t first_unit) const {
    return min_of(kBlockDepth * Operand::kDepth, depth() - first_unit * Operand::kDepth);
  }

  // Of a weight [C, K]: the panel's rows, from that step on.
  const float* weight_rows(const WaveGroup& g, int64_t panel, int64_t first_unit) const {
    const float* weight = static_cast<const float*>(gemm.weight.data[g.group.tower]);
    return weight + panel * kTileCols * depth() + first_unit * Operand::kDepth;
  }

  void pack_panel(const WaveGroup& g, int64_t panel, int64_t first_unit, float* out) const {
    int64_t column = panel * kTileCols, columns = min_of(kTileCols, gemm.c.cols - column);
    int64_t steps = depth_of_block(first_unit);
    if (gemm.weight_transposed) {
      pack_b_rows<Operand>(weight_rows(g, panel, first_unit), depth(), columns, steps, out);
    } else {
      const float* weight = static_cast<const float*>(gemm.weight.data[g.group.tower]);
      pack_b_columns<Operand>(weight + first_unit * Operand::kDepth * gemm.c.cols + column, gemm.c.cols, columns, steps,
                              out);
    }
  }

  // Rows [row, row + rows) of the group by panels [panel, panel_end).
  void multiply_block(const WaveGroup& g, int64_t row, int64_t rows, int64_t panel, int64_t panel_end,
                      const WorkerScratch& scratch) const {
    int64_t first = g.group.begin + row, all_units = units(g), stride = a_stride(all_units);
    if (gemm.a.dtype == kBF16)
      pack_a_rows<Operand>(row_of<const bf16>(gemm.a, first), gemm.a.stride, rows, depth(), scratch.a, stride);
    else
      pack_a_rows<Operand>(row_of<const float>(gemm.a, first), gemm.a.stride, rows, depth(), scratch.a, stride);
    for (; panel < panel_end; panel++) {
      bool unpacked = reads_weight(g, panel);
      for (int64_t k = 0; k < all_units; k += kBlockDepth) {
        int64_t block_units = min_of(kBlockDepth, all_units - k);
        if (unpacked) {
          multiply_few_rows<Operand>(rows, scratch.a + k, stride, weight_rows(g, panel, k), depth(), depth_of_block(k),
                                     scratch.tiles, k > 0);
          if (k + block_units == all_units) store_c(scratch.tiles, first, panel, rows);
          continue;
        }
        const float* b = scratch.panel;
        if (g.packed)
          b = g.packed + ((panel - g.panel_begin) * all_units + k) * kTileCols;
        else
          pack_panel(g, panel, k, scratch.panel);
        for (int64_t i = 0; i < rows; i += kTileRows) {
          float* tile = scratch.tiles + i * kTileCols;
          bool last = k + block_units == all_units;
          if (last) prefetch_c(first + i, panel, min_of(kTileRows, rows - i));
          multiply_tile<Operand, true>(scratch.a + i * stride + k, stride, b, block_units, tile, k > 0);
          if (last) store_c(tile, first + i, panel, min_of(kTileRows, rows - i));
        }
      }
    }
  }

  void prefetch_c(int64_t row, int64_t panel, int64_t rows) const {
    int64_t column = panel * kTileCols, columns = min_of(kTileCols, gemm.c.cols - column);
    int64_t size = gemm.c.dtype == kBF16 ? 2 : 4;
    prefetch_rows(static_cast<const char*>(gemm.c.data) + (row * gemm.c.stride + column) * size, gemm.c.stride * size,
                  rows, columns * size);
  }

  void store_c(const float* tile, int64_t row, int64_t panel, int64_t rows) const {
    int64_t column = panel * kTileCols, columns = min_of(kTileCols, gemm.c.cols - column);
    const float* addend = gemm.addend ? gemm.addend + row * gemm.addend_stride + column : nullptr;
    if (gemm.c.dtype == kBF16)
      store_tile(tile, rows, columns, addend, gemm.addend_stride, row_of<bf16>(gemm.c, row) + column, gemm.c.stride);
    else
      store_tile(tile, rows, columns, addend, gemm.addend_stride, row_of<float>(gemm.c, row) + column, gemm.c.stride);
  }
};

template <class Operand>
struct GradientJob {
  // A second group of a tower adds to what the first one has left: it waits for the next wave.
  static constexpr bool kOneGroupOfATower = true;
  const GradientGemm& gemm;

  int64_t depth(const WaveGroup& g) const { return g.group.end - g.group.begin; }
  int64_t units(const WaveGroup& g) const { return ceil_div(depth(g), Operand::kDepth); }
  int64_t panels() const { return ceil_div(gemm.c.cols, kTileCols); }
  int64_t rows(const WaveGroup&) const { return gemm.c.rows; }
  bool tasks_pack(const WaveGroup&, int64_t) const { return false; }

  void pack_panel(const WaveGroup& g, int64_t panel, int64_t first_unit, float* out) const {
    int64_t column = panel * kTileCols, columns = min_of(kTileCols, gemm.c.cols - column);
    int64_t k = first_unit * Operand::kDepth, steps = min_of(kBlockDepth * Operand::kDepth, depth(g) - k);
    int64_t row = g.group.begin + k;
    if (gemm.b.dtype == kBF16)
      pack_b_columns<Operand>(row_of<const bf16>(gemm.b, row) + column, gemm.b.stride, columns, steps, out);
    else
      pack_b_columns<Operand>(row_of<const float>(gemm.b, row) + column, gemm.b.stride, columns, steps, out);
  }

  // Rows [row, row + rows) of C by panels [panel_begin, panel_end). The reduction is the outer loop, so that a block of
  // A fits the cache however many rows the group has.
  void multiply_block(const WaveGroup& g, int64_t row, int64_t rows, int64_t panel_begin, int64_t panel_end,
                      const WorkerScratch& scratch) const {
    int64_t all_units = units(g), c_stride = gemm.c.cols;
    float* c = static_cast<float*>(gemm.c.data[g.group.tower]) + row * c_stride;
    for (int64_t k = 0; k < all_units; k += kBlockDepth) {
      int64_t block_units = min_of(kBlockDepth, all_units - k);
      int64_t first = g.group.begin + k * Operand::kDepth;
      int64_t steps = min_of(kBlockDepth * Operand::kDepth, g.group.end - first);
      if (gemm.a.dtype == kBF16)
        pack_a_columns<Operand>(row_of<const bf16>(gemm.a, first) + row, gemm.a.stride, rows, steps, scratch.a);
      else
        pack_a_columns<Operand>(row_of<const float>(gemm.a, first) + row, gemm.a.stride, rows, steps, scratch.a);
      // The next block of A is on its way while this one is multiplied: packing would wait for memory.
      const int64_t size = gemm.a.dtype == kBF16 ? 2 : 4, next = first + steps;
      const int64_t next_steps = min_of(kBlockDepth * Operand::kDepth, g.group.end - next);
      RowsPrefetch next_rows(static_cast<const char*>(gemm.a.data) + (next * gemm.a.stride + row) * size,
                             gemm.a.stride * size, next_steps, rows * size,
                             (panel_end - panel_begin) * ceil_div(rows, kTileRows));
      for (int64_t panel = panel_begin; panel < panel_end; panel++) {
        const float* b = g.packed + ((panel - g.panel_begin) * all_units + k) * kTileCols;
        int64_t column = panel * kTileCols, columns = min_of(kTileCols, c_stride - column);
        for (int64_t i = 0; i < rows; i += kTileRows) {
          float* to = c + i * c_stride + column;
          int64_t tile_rows = min_of(kTileRows, rows - i);
          next_rows.step();
          prefetch_rows(to, c_stride * 4, tile_rows, columns * 4);
          multiply_tile<Operand, false>(scratch.a + i * block_units, 0, b, block_units, scratch.tiles, false);
          store_tile(scratch.tiles, tile_rows, columns, to, c_stride, to, c_stride);
        }
      }
    }
  }
};

template <class Operand>
void run_rows(const Context& context, const RowsGemm& gemm) {
  int64_t units = ceil_div(gemm.a.cols, Operand::kDepth);
  run_waves(RowsJob<Operand>{gemm}, gemm.segments, INT64_MAX, kMinBlockRows, max_block_rows(units),
            Workspace(context, units));
}

// Rows of a block of C at least. Narrow panels are gone through quickly: where all of B fills much of the last-level
// cache, fewer blocks, which each fetch it once, gain more than an even end costs.
int64_t min_gradient_block_rows(const GradientGemm& gemm) {
  if (kWidth == 16) return kMinBlockRows;
  int64_t rows = 0;
  for (int64_t i = 0; i < gemm.segments.count; i++) rows += gemm.segments.data[i].end - gemm.segments.data[i].begin;
  return 4 * rows * gemm.c.cols >= kPackedBytes / 2 ? kMaxBlockRows : kMinBlockRows;
}

template <class Operand>
void run_gradient(const Context& context, const GradientGemm& gemm) {
  run_waves(GradientJob<Operand>{gemm}, gemm.segments, kMaxGradientRows, min_gradient_block_rows(gemm),
            max_block_rows(kBlockDepth), Workspace(context, kBlockDepth));
}

}  // namespace

void gemm_rows(const Context& context, const RowsGemm& gemm) {
  gemm.compute == kBF16 ? run_rows<Bf16Operand>(context, gemm) : run_rows<F32Operand>(context, gemm);
}

void gemm_gradient(const Context& context, const GradientGemm& gemm) {
  gemm.compute == kBF16 ? run_gradient<Bf16Operand>(context, gemm) : run_gradient<F32Operand>(context, gemm);
}

int64_t gemm_workspace(int64_t depth, int64_t columns, int64_t rows, int threads) {
  // Panels of several towers' weights, of one group's rows; at least one panel of the largest group.
  constexpr int64_t kTowers = 8;
  int64_t panels = ceil_div(columns, kTileCols), group_rows = min_of(rows, kMaxGradientRows);
  int64_t packed = 4 * kTileCols * panels * max_of(kTowers * depth, group_rows);
  int64_t one_panel = 4 * kTileCols * max_of(depth, group_rows);
  return threads * worker_floats(depth) * 4 + max_of(min_of(packed, kPackedBytes), one_panel);
}

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
