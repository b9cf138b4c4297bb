#include "model/branch.h"

namespace mot {

void project(const Pass& p, const Matrix& x, const Weight& weight, const Matrix& y, const Segments& segments) {
  p.engine.run(
      &OpTable::grouped_gemm_forward,
      GroupedGemmForward{
          .x = x, .weight = weight.value, .residual = {}, .y = y, .segments = segments, .compute = p.engine.compute});
}

void project_d_weight(const Pass& p, const Matrix& d_y, const Matrix& x, const Weight& weight, const Segments& segments,
                      DType compute) {
  const Segment* const all = segments.data;
  for (int64_t begin = 0, end = 0; begin < segments.count; begin = end + 1) {
    for (end = begin; end < segments.count && p.trains(weight, all[end].tower);) end++;
    if (end > begin)
      p.engine.run(
          &OpTable::grouped_gemm_d_w,
          GroupedGemmDw{
              .d_y = d_y, .x = x, .d_w = weight.gradient, .segments = {all + begin, end - begin}, .compute = compute});
  }
}

void project_backward(const Pass& p, const Matrix& d_y, const Matrix& x, const Weight& weight, const Matrix& d_x,
                      bool accumulate, const Segments& segments) {
  const Engine& e = p.engine;
  project_d_weight(p, d_y, x, weight, segments, e.compute);
  e.run(&OpTable::grouped_gemm_d_x, GroupedGemmDx{.d_y = d_y,
                                                  .weight = weight.value,
                                                  .d_x = d_x,
                                                  .accumulate = accumulate,
                                                  .segments = segments,
                                                  .compute = e.compute});
}

void branch_input(const Pass& p, const Branch& b) {
  if (!p.engine.norms_first()) return;  // x came with h
  p.engine.run(&OpTable::rms_norm_forward, RmsNormForward{.x = b.h,
                                                          .weight = b.norm.value,
                                                          .residual = {},
                                                          .out = b.x,
                                                          .out_copy = {},
                                                          .rstd = b.norm_rstd,
                                                          .segments = b.norm_segments,
                                                          .eps = p.engine.config.norm_eps});
}

void branch_output(const Pass& p, const Branch& b, const Matrix& out, const Weight& last) {
  const Engine& e = p.engine;
  if (e.norms_first()) {
    e.run(&OpTable::grouped_gemm_forward, GroupedGemmForward{.x = out,
                                                             .weight = last.value,
                                                             .residual = b.h,
                                                             .y = b.h_next,
                                                             .segments = b.segments,
                                                             .compute = e.compute});
    return;
  }
  project(p, out, last, b.branch, b.segments);
  branch_norm(p, b);
}

void branch_norm(const Pass& p, const Branch& b) {
  p.engine.run(&OpTable::rms_norm_forward, RmsNormForward{.x = b.branch,
                                                          .weight = b.norm.value,
                                                          .residual = b.h,
                                                          .out = b.h_next,
                                                          .out_copy = b.x_next,
                                                          .rstd = b.norm_rstd,
                                                          .segments = b.norm_segments,
                                                          .eps = p.engine.config.norm_eps});
}

Matrix branch_gradient(const Pass& p, const Branch& b) {
  const Engine& e = p.engine;
  const Matrix d_h = p.rows(e.buffers.d_h);
  if (e.norms_first()) return d_h;
  const Matrix d_y = p.rows(e.buffers.d_branch);
  e.run(&OpTable::rms_norm_backward, RmsNormBackward{.x = b.branch,
                                                     .weight = b.norm.value,
                                                     .rstd = b.norm_rstd,
                                                     .d_out = d_h,
                                                     .d_x = d_y,
                                                     .accumulate_d_x = 0,
                                                     .d_weight = b.norm.gradient,
                                                     .segments = b.norm_segments});
  return d_y;
}

void branch_output_backward(const Pass& p, const Branch& b, const Matrix& out, const Weight& last,
                            const Matrix& d_out) {
  project_backward(p, branch_gradient(p, b), out, last, d_out, false, b.segments);
}

Matrix branch_d_x(const Pass& p) {
  const Engine& e = p.engine;
  return p.rows(e.norms_first() ? e.buffers.d_x : e.buffers.d_h);
}

void branch_d_x_done(const Pass& p, const Branch& b) {
  const Engine& e = p.engine;
  if (!e.norms_first()) return;
  e.run(&OpTable::rms_norm_backward, RmsNormBackward{.x = b.h,
                                                     .weight = b.norm.value,
                                                     .rstd = b.norm_rstd,
                                                     .d_out = p.rows(e.buffers.d_x),
                                                     .d_x = p.rows(e.buffers.d_h),
                                                     .accumulate_d_x = 1,
                                                     .d_weight = b.norm.gradient,
                                                     .segments = b.norm_segments});
}

void branch_input_backward(const Pass& p, const Branch& b, const Weight& first, const Matrix& d_y) {
  project_backward(p, d_y, b.x, first, branch_d_x(p), !p.engine.norms_first(), b.segments);
  branch_d_x_done(p, b);
}

}  // namespace mot
