// What attention and MLP have in common: how a branch leaves the residual stream and comes back to it, for both
// placements of norms.
//   norms first ("pre"):          h_next = h + f(norm(h))
//   norms last ("branch_output"): h_next = h + norm(f(h))
#pragma once
#include "model/engine.h"

namespace mot {

struct Branch {
  Segments segments;       // of the projections
  Segments norm_segments;  // of the norm
  const Weight& norm;
  Matrix h;               // [N, D] f32: residual stream before
  Matrix x;               // [N, D] operand: what the branch's first projection reads
  Matrix branch;          // [N, D] operand: f(h) before its norm; none where norms come first
  float* norm_rstd;       // [N]
  Matrix h_next, x_next;  // h and x of the next branch; h_next may be h where norms come last, x_next may be none
};

// All rows as one segment, of a weight's only tower.
struct WholeSegment {
  explicit WholeSegment(int64_t rows) : segment{0, static_cast<int32_t>(rows), 0} {}
  operator Segments() const { return {&segment, 1}; }
  Segment segment;
};

// y = x W^T by segments.
void project(const Pass& pass, const Matrix& x, const Weight& weight, const Matrix& y, const Segments& segments);

// Adds the gradient of the weight, d_y^T x by segments; of frozen towers there is none.
void project_d_weight(const Pass& pass, const Matrix& d_y, const Matrix& x, const Weight& weight,
                      const Segments& segments, DType compute);

// The mirror of project: adds the gradient of the weight; d_x = d_y W, or adds that to d_x.
void project_backward(const Pass& pass, const Matrix& d_y, const Matrix& x, const Weight& weight, const Matrix& d_x,
                      bool accumulate, const Segments& segments);

// Fills x, where the branch before has not done so.
void branch_input(const Pass& pass, const Branch& branch);

// From `out`, the branch's last activation, through its last projection and back to the residual stream.
void branch_output(const Pass& pass, const Branch& branch, const Matrix& out, const Weight& last);
// Its last part where norms come last: from branch.branch.
void branch_norm(const Pass& pass, const Branch& branch);

// The mirrors. The gradient of the residual stream, buffers.d_h, is read by the first, completed by the second.
void branch_output_backward(const Pass& pass, const Branch& branch, const Matrix& out, const Weight& last,
                            const Matrix& d_out);
void branch_input_backward(const Pass& pass, const Branch& branch, const Weight& first, const Matrix& d_y);
// Their parts on the residual stream: the gradient of f(h) [N, D]; and where the gradient of x [N, D] f32 goes (added
// to d_h where that is the same, else to be overwritten), with what follows when it is there.
Matrix branch_gradient(const Pass& pass, const Branch& branch);
Matrix branch_d_x(const Pass& pass);
void branch_d_x_done(const Pass& pass, const Branch& branch);

}  // namespace mot
