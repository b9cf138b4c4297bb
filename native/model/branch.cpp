#include "model/branch.h"

namespace mot {

void project(const Pass& p, const Matrix& x, const Weight& weight, const Matrix& y, const Segments& segments) {
  p.engine.run(
      &OpTable::grouped_gemm_forward,
      GroupedGemmForward{
          .x = x, .weight = weight.value, .residual = {}, .y = y, .segments = segments, .compute = p.engine.compute});
}

void branch_input(const Pass& p, const Branch& b) {
  if (!p.engine.norms_first()) return;  // x came with h
  p.engine.run(&OpTable::rms_norm_forward, RmsNormForward{.x = b.h,
                                                          .weight = b.norm.value,
                                                          .residual = {},
                                                          .out = b.x,
                                                          .out_copy = {},
                                                          .rstd = b.norm_rstd,
                                                          .segments = b.segments,
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
  e.run(&OpTable::rms_norm_forward, RmsNormForward{.x = b.branch,
                                                   .weight = b.norm.value,
                                                   .residual = b.h,
                                                   .out = b.h_next,
                                                   .out_copy = b.x_next,
                                                   .rstd = b.norm_rstd,
                                                   .segments = b.segments,
                                                   .eps = e.config.norm_eps});
}

void branch_output_backward(const Pass& p, const Branch& b, const Matrix& out, const Weight& last,
                            const Matrix& d_out) {
  const Engine& e = p.engine;
  Matrix d_y = p.rows(e.buffers.d_h);  // gradient of f(h), [N, D]
  if (!e.norms_first()) {
    const Matrix d_h = d_y;
    d_y = p.rows(e.buffers.d_branch);
    e.run(&OpTable::rms_norm_backward, RmsNormBackward{.x = b.branch,
                                                       .weight = b.norm.value,
                                                       .rstd = b.norm_rstd,
                                                       .d_out = d_h,
                                                       .d_x = d_y,
                                                       .accumulate_d_x = 0,
                                                       .d_weight = b.norm.gradient,
                                                       .segments = b.segments});
  }
  e.run(&OpTable::grouped_gemm_d_w,
        GroupedGemmDw{.d_y = d_y, .x = out, .d_w = last.gradient, .segments = b.segments, .compute = e.compute});
  e.run(&OpTable::grouped_gemm_d_x, GroupedGemmDx{.d_y = d_y,
                                                  .weight = last.value,
                                                  .d_x = d_out,
                                                  .accumulate = 0,
                                                  .segments = b.segments,
                                                  .compute = e.compute});
}

void branch_input_backward(const Pass& p, const Branch& b, const Weight& first, const Matrix& d_y) {
  const Engine& e = p.engine;
  const bool norms_first = e.norms_first();
  const Matrix d_h = p.rows(e.buffers.d_h);
  const Matrix d_x = norms_first ? p.rows(e.buffers.d_x) : d_h;
  e.run(&OpTable::grouped_gemm_d_w,
        GroupedGemmDw{.d_y = d_y, .x = b.x, .d_w = first.gradient, .segments = b.segments, .compute = e.compute});
  e.run(&OpTable::grouped_gemm_d_x, GroupedGemmDx{.d_y = d_y,
                                                  .weight = first.value,
                                                  .d_x = d_x,
                                                  .accumulate = norms_first ? 0 : 1,
                                                  .segments = b.segments,
                                                  .compute = e.compute});
  if (!norms_first) return;
  e.run(&OpTable::rms_norm_backward, RmsNormBackward{.x = b.h,
                                                     .weight = b.norm.value,
                                                     .rstd = b.norm_rstd,
                                                     .d_out = d_x,
                                                     .d_x = d_h,
                                                     .accumulate_d_x = 1,
                                                     .d_weight = b.norm.gradient,
                                                     .segments = b.segments});
}

}  // namespace mot
