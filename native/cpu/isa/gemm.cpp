#include "cpu/isa/gemm.h"

#include <cassert>

#include "core/thread_team.h"
#include "cpu/isa/gemm_few_rows.h"
#include "cpu/isa/waves.h"

namespace mot {
namespace MOT_ISA_NAMESPACE {

namespace {

// What is packed and shared. More than this would leave the last-level cache and save nothing: panels are packed once
// for all rows either way.
constexpr int64_t kPackedBytes = int64_t{16} << 20;
// A block of A in packed form: half of a 1 MiB L2 cache, the other half is for the panel of B.
constexpr int64_t kBlockBytes = int64_t{512} << 10;
constexpr int64_t kMaxBlockRows = 24 * kTileRows;
// Tiles of a block of A, however deep the reduction. With narrow panels, which a block of few rows goes through
// quickly, waiting for the next panel costs more than a block that leaves the cache.
constexpr int64_t kMinBlockTiles = kWidth == 16 ? 4 : 18;
// Fewer would have a panel of B wait for the last-level cache.
constexpr int64_t kMinBlockRows = 12 * kTileRows;
// Rows of C that gemm_gradient works on at a time: one block of the reduction, as deep as kBlockDepth, of 4096 rows and
// as many columns fills what is shared.
constexpr int64_t kMaxStripRows = 4096;
// Multiply-adds of a thread in a wave of gemm_gradient, about: 1 to 3 ms, beside which waiting for the last is short.
constexpr int64_t kWaveWork = int64_t{1} << 27;
// Cuts of C by columns in gemm_gradient with several threads. Undivided, two threads walk through the same panels of B
// side by side, which takes 2 to 19 % longer (Zen 3); four or eight are as good as two.
constexpr int64_t kGradientColumnBlocks = 2;

constexpr int64_t kPanelBlockFloats = kBlockDepth * kTileCols;

// Steps of the reduction by which a panel of B is fetched into L1 ahead of its use.
constexpr int64_t kPrefetchSteps = kWidth == 8 ? 64 : 0;

// Floats of a row in a packed block of A. By rows off the powers of two: the rows of a tile are read side by side and
// must not fall into the same sets of the cache.
int64_t a_row_floats(int64_t units) { return kAByRows ? round_up(units, kWidth) + kWidth : units; }

int64_t max_block_rows(int64_t units) {
  int64_t tiles = kBlockBytes / (4 * a_row_floats(units) * kTileRows);
  return min_of(max_of(tiles, kMinBlockTiles) * kTileRows, kMaxBlockRows);
}

// What gemm_rows keeps for each worker: a block of A with its whole reduction, a panel block of B, the sums of a block
// of rows by one panel. gemm_gradient uses the last.
int64_t a_block_floats(int64_t units) {
  // Packing stores beyond the end.
  return max_of(kBlockBytes / 4, kMinBlockTiles * kTileRows * a_row_floats(units)) + 2 * kWidth;
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

template <class T>
T* row_of(const Matrix& m, int64_t row) {
  return static_cast<T*>(m.data) + row * m.stride;
}

// One wave of `job`: the shared panels, then all blocks.
template <class Job>
void run_wave(const Job& job, const Wave& wave, const Workspace& workspace) {
  int64_t pack_tasks = 0;
  for (int i = 0; i < wave.count; i++) pack_tasks += job.pack_tasks(wave.groups[i]);
  parallel_for(workspace.threads, pack_tasks, [&](int64_t task, int) {
    const WaveGroup* g = wave.groups;
    for (; task >= job.pack_tasks(*g); g++) task -= job.pack_tasks(*g);
    job.pack(*g, task);
  });
  parallel_for(workspace.threads, wave.blocks(), [&](int64_t task, int worker) {
    const WaveGroup* g = wave.groups;
    for (; task >= g->blocks(); g++) task -= g->blocks();
    int64_t rows = task / g->column_blocks, columns = task % g->column_blocks, first_row = g->first_row(rows);
    job.multiply_block(*g, first_row, g->first_row(rows + 1) - first_row, g->first_panel(columns),
                       g->first_panel(columns + 1), workspace.worker(worker));
  });
}

template <class Job>
void run_waves(const Job& job, const Segments& segments, int64_t max_group_rows, const BlockLimits& blocks,
               const Workspace& workspace) {
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
      const int64_t a_floats = job.shared_a_floats(g), panel_floats = job.units(g) * kTileCols;
      int64_t fit = min_of(max_of(left - a_floats, 0) / panel_floats, panels - panel);
      if (job.tasks_pack(g, workspace.packed_floats)) {
        g.a = g.b = nullptr;
        fit = panels - panel;
      } else if (fit > 0) {
        g.a = packed;
        g.b = packed + a_floats;
        packed += a_floats + fit * panel_floats;
        left -= a_floats + fit * panel_floats;
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
    wave.cut(blocks, workspace.threads);
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
  int64_t shared_a_floats(const WaveGroup&) const { return 0; }

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

  int64_t depth_blocks(const WaveGroup& g) const { return ceil_div(units(g), kBlockDepth); }
  int64_t pack_tasks(const WaveGroup& g) const { return g.b ? g.panels() * depth_blocks(g) : 0; }
  void pack(const WaveGroup& g, int64_t task) const {
    const int64_t panel = task / depth_blocks(g), first_unit = task % depth_blocks(g) * kBlockDepth;
    pack_panel(g, g.panel_begin + panel, first_unit, g.b + (panel * units(g) + first_unit) * kTileCols);
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

  // Rows [first, first + rows) of A with their whole reduction.
  template <class T>
  void pack_a(int64_t first, int64_t rows, float* out) const {
    const T* source = row_of<const T>(gemm.a, first);
    if constexpr (kAByRows) {
      pack_a_rows<Operand>(source, gemm.a.stride, rows, depth(), out, a_row_floats(ceil_div(depth(), Operand::kDepth)));
    } else {
      constexpr int64_t kSteps = kBlockDepth * Operand::kDepth;
      for (int64_t k = 0; k < depth(); k += kSteps, out += round_up(rows, kTileRows) * kBlockDepth)
        pack_a_transposed<Operand>(source + k, gemm.a.stride, rows, min_of(kSteps, depth() - k), out);
    }
  }

  // Rows [row, row + rows) of the group by panels [panel, panel_end).
  void multiply_block(const WaveGroup& g, int64_t row, int64_t rows, int64_t panel, int64_t panel_end,
                      const WorkerScratch& scratch) const {
    int64_t first = g.group.begin + row, all_units = units(g), stride = a_row_floats(all_units);
    gemm.a.dtype == kBF16 ? pack_a<bf16>(first, rows, scratch.a) : pack_a<float>(first, rows, scratch.a);
    for (; panel < panel_end; panel++) {
      if (reads_weight(g, panel)) {
        multiply_few_rows<Operand>(rows, scratch.a, stride, weight_rows(g, panel, 0), depth(), scratch.tiles);
        store_c(scratch.tiles, first, panel, rows);
        continue;
      }
      for (int64_t k = 0; k < all_units; k += kBlockDepth) {
        int64_t block_units = min_of(kBlockDepth, all_units - k);
        const float* a = scratch.a + (kAByRows ? k : k * round_up(rows, kTileRows));
        bool last = k + block_units == all_units;
        const float* b = scratch.panel;
        if (g.b)
          b = g.b + ((panel - g.panel_begin) * all_units + k) * kTileCols;
        else
          pack_panel(g, panel, k, scratch.panel);
        for (int64_t i = 0; i < rows; i += kTileRows) {
          float* tile = scratch.tiles + i * kTileCols;
          if (last) prefetch_c(first + i, panel, min_of(kTileRows, rows - i));
          multiply_tile<Operand, kAByRows>(a + i * (kAByRows ? stride : block_units), stride, b, block_units, tile,
                                           k > 0);
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

// c_t += a^T b for rows [first_row, first_row + row_count) of c. Both operands are packed once, row by row as they lie,
// a few blocks of the reduction at a time: they stay in the last-level cache, and C can be cut as finely as balance
// asks.
template <class Operand>
struct GradientJob {
  // A second group of a tower adds to what the first one has left: it waits for the next wave.
  static constexpr bool kOneGroupOfATower = true;
  const GradientGemm& gemm;
  int64_t first_row, row_count;

  int64_t depth(const WaveGroup& g) const { return g.group.end - g.group.begin; }
  int64_t units(const WaveGroup& g) const { return ceil_div(depth(g), Operand::kDepth); }
  int64_t panels() const { return ceil_div(gemm.c.cols, kTileCols); }
  int64_t rows(const WaveGroup&) const { return row_count; }
  int64_t shared_a_floats(const WaveGroup& g) const {
    return round_up(round_up(row_count, kTileRows) * units(g), kLine);
  }
  bool tasks_pack(const WaveGroup&, int64_t) const { return false; }

  int64_t pack_tasks(const WaveGroup& g) const { return ceil_div(units(g), kPackUnits); }
  void pack(const WaveGroup& g, int64_t task) const {
    const int64_t unit = task * kPackUnits, row = g.group.begin + unit * Operand::kDepth;
    const int64_t steps = min_of(kPackUnits * Operand::kDepth, g.group.end - row);
    gemm.a.dtype == kBF16 ? pack_a<bf16>(g, row, steps, unit) : pack_a<float>(g, row, steps, unit);
    gemm.b.dtype == kBF16 ? pack_b<bf16>(g, row, steps, unit) : pack_b<float>(g, row, steps, unit);
  }

  // `steps` rows of A or B from `row` on, which are units of the reduction from `unit` on.
  template <class T>
  void pack_a(const WaveGroup& g, int64_t row, int64_t steps, int64_t unit) const {
    pack_a_columns<Operand>(row_of<const T>(gemm.a, row) + first_row, gemm.a.stride, row_count, steps,
                            g.a + unit * kTileRows, units(g) * kTileRows);
  }
  template <class T>
  void pack_b(const WaveGroup& g, int64_t row, int64_t steps, int64_t unit) const {
    for (int64_t panel = g.panel_begin; panel < g.panel_end; panel++) {
      const int64_t column = panel * kTileCols, columns = min_of(kTileCols, gemm.c.cols - column);
      pack_b_columns<Operand>(row_of<const T>(gemm.b, row) + column, gemm.b.stride, columns, steps,
                              g.b + ((panel - g.panel_begin) * units(g) + unit) * kTileCols);
    }
  }

  // Rows [row, row + rows) by panels [panel_begin, panel_end). The reduction is the outer loop, so that a block of A
  // fits the cache however deep the wave is.
  void multiply_block(const WaveGroup& g, int64_t row, int64_t rows, int64_t panel_begin, int64_t panel_end,
                      const WorkerScratch& scratch) const {
    const int64_t all_units = units(g), c_stride = gemm.c.cols;
    float* c = static_cast<float*>(gemm.c.data[g.group.tower]) + (first_row + row) * c_stride;
    for (int64_t k = 0; k < all_units; k += kBlockDepth) {
      const int64_t block_units = min_of(kBlockDepth, all_units - k);
      for (int64_t panel = panel_begin; panel < panel_end; panel++) {
        const float* b = g.b + ((panel - g.panel_begin) * all_units + k) * kTileCols;
        const int64_t column = panel * kTileCols, columns = min_of(kTileCols, c_stride - column);
        for (int64_t i = 0; i < rows; i += kTileRows) {
          const float* a = g.a + (row + i) * all_units + k * kTileRows;
          const int64_t tile_rows = min_of(kTileRows, rows - i);
          float* to = c + i * c_stride + column;
          prefetch_rows(to, c_stride * 4, tile_rows, columns * 4);
          multiply_tile<Operand, false>(a, 0, b, block_units, scratch.tiles, false);
          store_tile(scratch.tiles, tile_rows, columns, to, c_stride, to, c_stride);
        }
      }
    }
  }

 private:
  static constexpr int64_t kPackUnits = 32;  // of a task
};

template <class Operand>
void run_rows(const Context& context, const RowsGemm& gemm) {
  int64_t units = ceil_div(gemm.a.cols, Operand::kDepth);
  run_waves(RowsJob<Operand>{gemm}, gemm.segments, INT64_MAX, {kMinBlockRows, max_block_rows(units), 1},
            Workspace(context, units));
}

template <class Operand>
void run_gradient(const Context& context, const GradientGemm& gemm) {
  const Workspace workspace(context, kBlockDepth);
  const int64_t strip = min_of(gemm.c.rows, kMaxStripRows), width = strip + gemm.c.cols;
  constexpr int64_t kBlock = kBlockDepth * Operand::kDepth;
  // Deep enough that a wave keeps the threads busy, no deeper than fits.
  int64_t rows = round_up(ceil_div(kWaveWork * workspace.threads, strip * gemm.c.cols), kBlock);
  rows = max_of(min_of(rows, workspace.packed_floats / (width + kTileCols) / kBlock * kBlock), kBlock);
  for (int64_t first = 0; first < gemm.c.rows; first += strip)
    run_waves(GradientJob<Operand>{gemm, first, min_of(strip, gemm.c.rows - first)}, gemm.segments, rows,
              {kMaxBlockRows, kMaxBlockRows, kGradientColumnBlocks}, workspace);
}

}  // namespace

void gemm_rows(const Context& context, const RowsGemm& gemm) {
  gemm.compute == kBF16 ? run_rows<Bf16Operand>(context, gemm) : run_rows<F32Operand>(context, gemm);
}

void gemm_gradient(const Context& context, const GradientGemm& gemm) {
  gemm.compute == kBF16 ? run_gradient<Bf16Operand>(context, gemm) : run_gradient<F32Operand>(context, gemm);
}

int64_t gemm_workspace(int64_t depth, int64_t columns, int64_t rows, int threads) {
  // Panels of several towers' weights; both operands of a gradient, of which at least one block of the reduction by a
  // strip and a panel has to fit.
  constexpr int64_t kTowers = 8;
  const int64_t panels = ceil_div(columns, kTileCols), strip = round_up(min_of(columns, kMaxStripRows), kTileRows);
  const int64_t weights = kTileCols * panels * kTowers * depth, one_panel = kTileCols * depth;
  const int64_t gradient = (strip + kTileCols * panels) * rows, one_block = (strip + kTileCols) * kBlockDepth + kLine;
  return threads * worker_floats(depth) * 4 +
         max_of(min_of(4 * max_of(weights, gradient), kPackedBytes), 4 * max_of(one_panel, one_block));
}

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
