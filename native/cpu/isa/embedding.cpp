// Contract: ops/embedding.h.
#include "cpu/isa/kernels.h"
#include "cpu/isa/rows.h"

namespace mot {
namespace MOT_ISA_NAMESPACE {

int64_t embedding_workspace(const OpLimits&) { return 0; }

int embedding_forward(const Context* context, const EmbeddingForward* params) {
  const EmbeddingForward& p = *params;
  if (p.table.dtype != kF32) return fail("[embedding] expected a table in f32, got %s", dtype_name(p.table.dtype));
  parallel_rows(context, p.out.rows, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++) {
      if (p.token[n] < 0) {
        zero_rows(p.out, n, n + 1);
        if (given(p.out_copy)) zero_rows(p.out_copy, n, n + 1);
        continue;
      }
      Row from = row_of(p.table, p.token[n]);
      for_columns(p.out.cols, [&](int64_t d, auto part) {
        Vec v = load(from, d, part);
        store(row_of(p.out, n), d, v, part);
        if (given(p.out_copy)) store(row_of(p.out_copy, n), d, v, part);
      });
    }
  });
  return 0;
}

// Tasks are strips of columns: each walks all rows in order, so that rows of one token need no lock and are added in
// a fixed order. Two strips a thread, since short pieces of rows are read slowly; bits do not depend on the strips.
int embedding_backward(const Context* context, const EmbeddingBackward* params) {
  const EmbeddingBackward& p = *params;
  if (p.d_table.dtype != kF32) return fail("[embedding] expected f32, got %s", dtype_name(p.d_table.dtype));
  const int64_t D = p.d_out.cols, strips = context->threads > 1 ? 2 * context->threads : 1;
  const int64_t strip = ((D + strips - 1) / strips + 31) / 32 * 32;
  parallel_for(context->threads, D ? (D + strip - 1) / strip : 0, [&](int64_t task, int) {
    int64_t d0 = task * strip, cols = D - d0 < strip ? D - d0 : strip;
    for (int64_t n = 0; n < p.d_out.rows; n++) {
      if (p.token[n] < 0) continue;
      Row d_out = row_of(p.d_out, n, d0), d_table = row_of(p.d_table, p.token[n], d0);
      for_columns(
          cols, [&](int64_t d, auto part) { store(d_table, d, load(d_table, d, part) + load(d_out, d, part), part); });
    }
  });
  return 0;
}

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
