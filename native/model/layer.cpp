#include "model/layer.h"

#include "model/attention.h"
#include "model/branch.h"
#include "model/experts.h"

namespace mot {
namespace {

Branch attention_branch(const Pass& p, int64_t layer) {
  const LayerBuffers& own = p.engine.buffers.layers[layer];
  const auto& b = own.attention;
  return {p.self_attn,      p.attention_norm, p.weights.layers[layer].attention_norm, p.rows(b.h),
          p.rows(b.x),      p.rows(b.branch), p.engine.floats(b.norm_rstd),           p.rows(own.mlp.h),
          p.rows(own.mlp.x)};
}

Branch mlp_branch(const Pass& p, int64_t layer) {
  const Buffers& buffers = p.engine.buffers;
  const auto& b = buffers.layers[layer].mlp;
  const bool last = layer + 1 == p.engine.config.n_layers;
  const LayerBuffers::Attention* next = last ? nullptr : &buffers.layers[layer + 1].attention;
  return {p.mlp,
          p.ffn_norm,
          p.weights.layers[layer].ffn_norm,
          p.rows(b.h),
          p.rows(b.x),
          p.rows(b.branch),
          p.engine.floats(b.norm_rstd),
          p.rows(last ? buffers.h : next->h),
          p.rows(last ? kNoBuffer : next->x)};
}

// From the branch's input to the input of its last projection.
void attention_inside(const Pass& p, int64_t layer, const Branch& branch) {
  const Engine& e = p.engine;
  branch_input(p, branch);
  project(p, branch.x, p.weights.layers[layer].qkv, p.rows(e.buffers.layers[layer].attention.qkv), p.self_attn);
  attend(p, layer);
}

void mlp_inside(const Pass& p, int64_t layer, const Branch& branch) {
  const Engine& e = p.engine;
  const LayerBuffers::Mlp& b = e.buffers.layers[layer].mlp;
  branch_input(p, branch);
  project(p, branch.x, p.weights.layers[layer].gate_up, p.rows(b.gate_up), p.mlp);
  e.run(&OpTable::swiglu_forward, SwigluForward{.gate_up = p.rows(b.gate_up), .out = p.rows(b.out)});
}

void attention_forward(const Pass& p, int64_t layer) {
  const Engine& e = p.engine;
  const Branch branch = attention_branch(p, layer);
  attention_inside(p, layer, branch);
  branch_output(p, branch, p.rows(e.buffers.layers[layer].attention.out), p.weights.layers[layer].o);
}

void mlp_forward(const Pass& p, int64_t layer) {
  const Engine& e = p.engine;
  const Branch branch = mlp_branch(p, layer);
  if (e.config.has_experts()) {
    experts_inside(p, layer, branch);
    experts_output(p, layer, branch);
    return;
  }
  mlp_inside(p, layer, branch);
  branch_output(p, branch, p.rows(e.buffers.layers[layer].mlp.out), p.weights.layers[layer].down);
}

void mlp_backward(const Pass& p, int64_t layer) {
  const Engine& e = p.engine;
  const LayerWeights& w = p.weights.layers[layer];
  const LayerBuffers::Mlp& b = e.buffers.layers[layer].mlp;
  const Branch branch = mlp_branch(p, layer);
  const bool again = e.limits.checkpointing == Checkpointing::kBlock;
  if (e.config.has_experts()) {
    if (again) {
      experts_inside(p, layer, branch);
      if (!e.norms_first()) experts_branch(p, layer, branch);
      p.check_abort();
    }
    experts_backward(p, layer, branch);
    return;
  }

  const Matrix gate_up = p.rows(b.gate_up), d_out = p.rows(e.buffers.d_mlp);
  if (again) {
    mlp_inside(p, layer, branch);
    if (!e.norms_first()) project(p, p.rows(b.out), w.down, branch.branch, p.mlp);
    p.check_abort();
  }
  branch_output_backward(p, branch, p.rows(b.out), w.down, d_out);
  e.run(&OpTable::swiglu_backward, SwigluBackward{.gate_up = gate_up, .d_out = d_out, .d_gate_up = gate_up});
  branch_input_backward(p, branch, w.gate_up, gate_up);
}

void attention_backward(const Pass& p, int64_t layer) {
  const Engine& e = p.engine;
  const LayerWeights& w = p.weights.layers[layer];
  const LayerBuffers::Attention& b = e.buffers.layers[layer].attention;
  const Branch branch = attention_branch(p, layer);

  if (e.limits.checkpointing != Checkpointing::kNone) {
    attention_inside(p, layer, branch);
    if (!e.norms_first()) project(p, p.rows(b.out), w.o, branch.branch, p.self_attn);
    p.check_abort();
  }
  branch_output_backward(p, branch, p.rows(b.out), w.o, p.rows(e.buffers.d_attention));
  attend_backward(p, layer);
  branch_input_backward(p, branch, w.qkv, p.rows(e.buffers.d_qkv));
}

}  // namespace

void layer_forward(const Pass& pass, int64_t layer) {
  pass.check_abort();
  attention_forward(pass, layer);
  pass.check_abort();
  mlp_forward(pass, layer);
}

void layer_backward(const Pass& pass, int64_t layer) {
  pass.check_abort();
  mlp_backward(pass, layer);
  pass.check_abort();
  attention_backward(pass, layer);
}

}  // namespace mot
