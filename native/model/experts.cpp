#include "model/experts.h"

namespace mot {
namespace {

Segments as_segments(const std::vector<Segment>& segments) {
  return {segments.data(), static_cast<int64_t>(segments.size())};
}

// The first `experts` columns.
Matrix columns(Matrix m, int64_t experts) {
  m.cols = experts;
  return m;
}

// The routed rows of every weight set, as the routers of the layer chose them.
Segments routed_segments(const Pass& p, int64_t layer) {
  const Engine& e = p.engine;
  return {e.data<Segment>(e.buffers.layers[layer].routing.segments), e.config.mlp_sets()};
}

// The place of a tower's gradients of its load-balance loss; nullptr without one.
float* d_balance_of(const Pass& p, int64_t layer, const RoutedTower& tower) {
  const Engine& e = p.engine;
  const Experts& experts = e.config.experts[tower.tower];
  if (!tower.has_router || experts.routing != Routing::kTokenChoice) return nullptr;
  return e.floats(e.buffers.layers[layer].routing.d_balance) + tower.tower * e.config.max_experts();
}

double* balance_of(const Pass& p, int64_t layer, int64_t tower) {
  const Engine& e = p.engine;
  return e.data<double>(e.buffers.balance) + layer * static_cast<int64_t>(e.config.experts.size()) + tower;
}

// The probabilities of one tower's experts. Routers compute in f32 whatever the compute dtype: a rounding would hand
// tokens to other experts.
Matrix router_probs(const Pass& p, int64_t layer, const RoutedTower& tower, const Matrix& x) {
  const Engine& e = p.engine;
  const Matrix logits = columns(p.rows(e.buffers.logits), tower.experts);
  const Matrix probs = columns(p.rows(e.buffers.layers[layer].routing.probs), tower.experts);
  const Segments segments = as_segments(tower.segments);
  e.run(&OpTable::grouped_gemm_forward, GroupedGemmForward{.x = x,
                                                           .weight = p.weights.layers[layer].routers[tower.tower].value,
                                                           .residual = {},
                                                           .y = logits,
                                                           .segments = segments,
                                                           .compute = kF32});
  e.run(&OpTable::router_forward, RouterForward{.logits = logits, .probs = probs, .segments = segments});
  return probs;
}

void route(const Pass& p, int64_t layer, const Matrix& x) {
  const Engine& e = p.engine;
  const LayerBuffers::Routing& b = e.buffers.layers[layer].routing;
  for (const RoutedTower& tower : p.groups.routed) {
    const Matrix probs = tower.has_router ? router_probs(p, layer, tower, x) : Matrix{};
    const RoutedRows out{.row = e.data<int32_t>(b.row),
                         .gate = e.floats(b.gate),
                         .place = e.data<int32_t>(b.place),
                         .place_stride = e.config.max_experts(),
                         .segments = e.data<Segment>(b.segments) + tower.first_set,
                         .begin = tower.begin,
                         .end = tower.end,
                         .alignment = e.table->row_alignment,
                         .first_set = static_cast<int32_t>(tower.first_set)};
    const Segments segments = as_segments(tower.segments);
    if (tower.top_k == 0) {
      e.run(&OpTable::routing_expert_choice, RoutingExpertChoice{.probs = probs,
                                                                 .seq_row = p.groups.seq_row.data(),
                                                                 .capacity = tower.capacity,
                                                                 .out = out,
                                                                 .segments = segments});
      continue;
    }
    float* d_balance = d_balance_of(p, layer, tower);
    e.run(&OpTable::routing_token_choice,
          RoutingTokenChoice{.probs = probs,
                             .top_k = tower.top_k,
                             .balance = d_balance ? balance_of(p, layer, tower.tower) : nullptr,
                             .d_balance = d_balance,
                             .out = out,
                             .segments = segments});
  }
}

void to_experts(const Pass& p, int64_t layer, const Matrix& rows) {
  const Engine& e = p.engine;
  e.run(&OpTable::dispatch_copy, DispatchCopy{.x = rows,
                                              .row = e.data<int32_t>(e.buffers.layers[layer].routing.row),
                                              .out = p.routed(e.buffers.routed_x)});
}

void from_experts(const Pass& p, int64_t layer, const Matrix& addend, const Matrix& rows) {
  const Engine& e = p.engine;
  e.run(&OpTable::dispatch_sum, DispatchSum{.x = p.routed(e.buffers.routed_y),
                                            .place = e.data<int32_t>(e.buffers.layers[layer].routing.place),
                                            .columns = e.config.max_experts(),
                                            .addend = addend,
                                            .out = rows,
                                            .segments = p.mlp});
}

void expert_results(const Pass& p, int64_t layer) {
  const Engine& e = p.engine;
  project(p, p.routed(e.buffers.layers[layer].mlp.out), p.weights.layers[layer].down, p.routed(e.buffers.routed_y),
          routed_segments(p, layer));
}

// From the gradients of the gates to the routers' weights and to d_x, which is added to.
void routers_backward(const Pass& p, int64_t layer, const Matrix& x, const Matrix& d_x) {
  const Engine& e = p.engine;
  const LayerBuffers::Routing& b = e.buffers.layers[layer].routing;
  for (const RoutedTower& tower : p.groups.routed) {
    if (!tower.has_router) continue;
    const Matrix d_logits = columns(p.rows(e.buffers.logits), tower.experts);
    const Segments segments = as_segments(tower.segments);
    const Weight& router = p.weights.layers[layer].routers[tower.tower];
    e.run(&OpTable::router_backward,
          RouterBackward{.probs = columns(p.rows(b.probs), tower.experts),
                         .place = e.data<int32_t>(b.place),
                         .place_stride = e.config.max_experts(),
                         .d_gate = e.floats(e.buffers.d_gate),
                         .d_balance = d_balance_of(p, layer, tower),
                         .balance_scale = p.balance_share * e.config.experts[tower.tower].balance_loss,
                         .d_logits = d_logits,
                         .segments = segments});
    project_d_weight(p, d_logits, x, router, segments, kF32);
    e.run(&OpTable::grouped_gemm_d_x, GroupedGemmDx{.d_y = d_logits,
                                                    .weight = router.value,
                                                    .d_x = d_x,
                                                    .accumulate = 1,
                                                    .segments = segments,
                                                    .compute = kF32});
  }
}

}  // namespace

void experts_inside(const Pass& p, int64_t layer, const Branch& branch) {
  const Engine& e = p.engine;
  const LayerBuffers& b = e.buffers.layers[layer];
  branch_input(p, branch);
  route(p, layer, branch.x);
  to_experts(p, layer, branch.x);
  project(p, p.routed(e.buffers.routed_x), p.weights.layers[layer].gate_up, p.routed(b.mlp.gate_up),
          routed_segments(p, layer));
  e.run(&OpTable::swiglu_forward,
        SwigluForward{
            .gate_up = p.routed(b.mlp.gate_up), .out = p.routed(b.mlp.out), .row_scale = e.floats(b.routing.gate)});
}

void experts_branch(const Pass& p, int64_t layer, const Branch& branch) {
  expert_results(p, layer);
  from_experts(p, layer, {}, branch.branch);
}

void experts_output(const Pass& p, int64_t layer, const Branch& branch) {
  if (p.engine.norms_first()) {
    expert_results(p, layer);
    from_experts(p, layer, branch.h, branch.h_next);
    return;
  }
  experts_branch(p, layer, branch);
  branch_norm(p, branch);
}

void experts_backward(const Pass& p, int64_t layer, const Branch& branch) {
  const Engine& e = p.engine;
  const LayerBuffers& b = e.buffers.layers[layer];
  const LayerWeights& w = p.weights.layers[layer];
  const Segments segments = routed_segments(p, layer);
  const Matrix routed_x = p.routed(e.buffers.routed_x), gate_up = p.routed(b.mlp.gate_up);
  const Matrix d_out = p.routed(e.buffers.d_mlp);

  to_experts(p, layer, branch_gradient(p, branch));
  project_backward(p, routed_x, p.routed(b.mlp.out), w.down, d_out, false, segments);
  e.run(&OpTable::swiglu_backward, SwigluBackward{.gate_up = gate_up,
                                                  .d_out = d_out,
                                                  .d_gate_up = gate_up,
                                                  .row_scale = e.floats(b.routing.gate),
                                                  .d_row_scale = e.floats(e.buffers.d_gate)});
  to_experts(p, layer, branch.x);
  project_backward(p, gate_up, routed_x, w.gate_up, p.routed(e.buffers.routed_y), false, segments);
  const Matrix d_x = branch_d_x(p);
  from_experts(p, layer, e.norms_first() ? Matrix{} : d_x, d_x);
  routers_backward(p, layer, branch.x, d_x);
  branch_d_x_done(p, branch);
}

BalanceLoss balance_loss(const Pass& p) {
  BalanceLoss loss;
  int64_t count = 0;
  for (const RoutedTower& tower : p.groups.routed) {
    const Experts& experts = p.engine.config.experts[tower.tower];
    if (!tower.has_router || experts.routing != Routing::kTokenChoice) continue;
    for (int64_t layer = 0; layer < p.engine.config.n_layers; layer++) {
      const double balance = *balance_of(p, layer, tower.tower);
      loss.weighted += experts.balance_loss * balance;
      loss.mean += balance;
      count++;
    }
  }
  if (count > 0) loss.mean /= static_cast<double>(count);
  return loss;
}

}  // namespace mot
