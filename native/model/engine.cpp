#include "model/engine.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/thread_team.h"

namespace mot {
namespace {

constexpr int64_t kMaxRows = int64_t{1} << 30;  // rows and slots are 32-bit indices

void check_limit(const char* key, int64_t value, int64_t low) {
  if (value < low || value > kMaxRows)
    throw errorf("ERR_CONFIG", "[model] expected the limit %s from %lld to %lld, got %lld", key,
                 static_cast<long long>(low), static_cast<long long>(kMaxRows), static_cast<long long>(value));
}

void validate(const Limits& limits, DType compute, int threads) {
  check_limit("tokens", limits.tokens, 1);
  check_limit("kv_slots", limits.kv_slots, 0);
  check_limit("positions", limits.positions, 1);
  check_limit("images", limits.images, 0);
  if (limits.ema && !limits.training)
    throw errorf("ERR_CONFIG", "[model] expected ema with training only, because nothing else changes weights");
  if (compute != kF32 && compute != kBF16)
    throw errorf("ERR_UNSUPPORTED", "[model] expected compute dtype F32 or BF16, got %s", dtype_name(compute));
  if (threads < 1 || threads > kMaxThreads)
    throw errorf("ERR_CONFIG", "[model] expected from 1 to %d threads, got %d", kMaxThreads, threads);
}

// A group of few tokens is ordinary, but no group can ever fill more experts than a batch has tokens.
void validate_experts(const ModelConfig& c, const Limits& limits, int64_t row_alignment) {
  if (!c.has_experts()) return;
  for (size_t tower = 0; limits.training && tower < c.experts.size(); tower++)
    if (c.experts[tower].count > limits.tokens)
      throw errorf("ERR_CONFIG",
                   "[model] expected at most as many experts in tower %s as the %lld tokens of a micro-batch, got %lld",
                   c.mlp.names[tower].c_str(), static_cast<long long>(limits.tokens),
                   static_cast<long long>(c.experts[tower].count));
  check_limit("tokens times experts of a token", max_routed_rows(c, limits, row_alignment), 1);
}

int64_t workspace_bytes(const ModelConfig& c, const Limits& limits, DType compute, const OpTable* table, int threads) {
  const int64_t P = c.diffusion ? c.diffusion->patch_dim : 0, images = c.diffusion ? limits.max_images() : 0;
  const OpLimits op_limits{
      .rows = std::max(
          {max_rows(c, limits, table->row_alignment), max_routed_rows(c, limits, table->row_alignment), images}),
      .slots = std::max(limits.tokens, limits.kv_slots),
      .in_features = std::max({c.d_model, c.attn_dim(), c.ffn_dim, c.max_experts(), P}),
      .out_features = std::max({c.qkv_dim(), c.d_model, 2 * c.ffn_dim, c.vocab, c.max_experts(), P}),
      .d_model = c.d_model,
      .heads = c.n_heads,
      .kv_heads = c.n_kv_heads,
      .head_dim = c.head_dim,
      .vocab = c.vocab,
      .threads = threads,
      .compute = compute,
  };
  return table->workspace_bytes(&op_limits);
}

// Row p: the cosines, then the sines of p * theta^(-e/(E/2)).
void fill_rope_table(const ModelConfig& c, int64_t positions, float* table) {
  const int64_t half = c.head_dim / 2;
  for (int64_t e = 0; e < half; e++) {
    const double frequency = std::pow(c.rope_theta, -static_cast<double>(e) / static_cast<double>(half));
    for (int64_t p = 0; p < positions; p++) {
      const double angle = static_cast<double>(p) * frequency;
      table[p * c.head_dim + e] = static_cast<float>(std::cos(angle));
      table[p * c.head_dim + half + e] = static_cast<float>(std::sin(angle));
    }
  }
}

const ModelWeights& weights_of(const Engine& engine, WeightKind kind) {
  if (kind == WeightKind::kRaw) return engine.weights;
  if (!engine.ema) throw errorf("ERR_UNSUPPORTED", "[model] expected a model created with ema, which averages weights");
  return *engine.ema;
}

Segments as_segments(const std::vector<Segment>& segments) {
  return {segments.data(), static_cast<int64_t>(segments.size())};
}

}  // namespace

Buffers plan_buffers(const ModelConfig& config, const Limits& limits, DType compute, const OpTable* table,
                     int threads) {
  validate(config);
  validate(limits, compute, threads);
  validate_experts(config, limits, table->row_alignment);
  return Buffers(config, limits, compute, table->row_alignment, WeightList(config).flat_count(),
                 workspace_bytes(config, limits, compute, table, threads));
}

Engine::Engine(const ModelConfig& config, const Limits& limits, DType compute, const OpTable* table, int threads)
    : config((validate(config), config)),
      limits(limits),
      compute(compute),
      table(table),
      threads(threads),
      list(config),
      buffers(plan_buffers(config, limits, compute, table, threads)),
      arena_(buffers.plan.bytes()),
      weights(config, list, floats(buffers.weights), floats(buffers.gradients)),
      ema(limits.ema ? std::make_unique<const ModelWeights>(config, list, floats(buffers.ema), nullptr) : nullptr) {
  fill_rope_table(config, limits.positions, floats(buffers.rope));
}

void* Engine::touch(BufferId id) const {
  const PlanEntry& entry = buffers.plan.entry(id);
  high_water_ = std::max(high_water_, (entry.offset + entry.bytes + 63) / 64 * 64);
  return arena_.data() + entry.offset;
}

Matrix Engine::matrix(BufferId id, int64_t rows) const {
  const PlanEntry& entry = buffers.plan.entry(id);
  const int64_t cols = entry.shape.back();
  return {touch(id), buffers.plan.dtype(id), rows, cols, cols};
}

void Engine::throw_last_error() const {
  throw errorf("ERR_INTERNAL", "[%s backend] %s", table->name, table->last_error());
}

Pass::Pass(const Engine& engine, const TokenGroups& groups, const AbortFlag& abort, bool cached, WeightKind kind)
    : engine(engine),
      weights(weights_of(engine, kind)),
      groups(groups),
      self_attn(as_segments(groups.self_attn)),
      mlp(as_segments(groups.mlp)),
      final(as_segments(groups.final)),
      attention_norm(as_segments(groups.attention_norm)),
      ffn_norm(as_segments(groups.ffn_norm)),
      abort_(abort),
      cached_(cached) {
  const Limits& limits = engine.limits;
  const int64_t max = max_rows(engine.config, limits, engine.table->row_alignment);
  if (groups.tokens > limits.tokens || groups.rows > max)
    throw errorf("ERR_LIMIT", "[model] expected at most %lld tokens in %lld rows, got %lld in %lld",
                 static_cast<long long>(limits.tokens), static_cast<long long>(max),
                 static_cast<long long>(groups.tokens), static_cast<long long>(groups.rows));
  if (cached && limits.kv_slots == 0)
    throw errorf("ERR_LIMIT", "[model] expected a model with a KV cache to decode; create it with kv_slots > 0");
  const int64_t slots = cached ? limits.kv_slots : 0;
  if (groups.kv_slots != slots)
    throw errorf("ERR_BATCH", "[model] expected a batch that addresses %lld slots of the KV cache, got one for %lld",
                 static_cast<long long>(slots), static_cast<long long>(groups.kv_slots));
}

Matrix Pass::key_rows(BufferId own, BufferId cache, int64_t layer) const {
  if (!cached_) return engine.matrix(own, groups.tokens);
  Matrix m = engine.matrix(cache, groups.kv_slots);
  const int64_t layer_bytes = groups.kv_slots * m.stride * static_cast<int64_t>(dtype_size(m.dtype));
  m.data = static_cast<uint8_t*>(m.data) + layer * layer_bytes;
  return m;
}

bool Pass::trains(const Weight& weight, int64_t tower) const {
  if (!lr_scales || lr_scales->empty()) return true;
  const TensorRange range = weight.tensors[tower];
  const double* scales = lr_scales->data();
  return std::any_of(scales + range.begin, scales + range.end, [](double scale) { return scale != 0; });
}

int64_t Pass::lowest_trained_layer() const {
  if (!lr_scales || lr_scales->empty()) return -1;
  int64_t lowest = engine.config.n_layers;
  for (const WeightInfo& weight : engine.list.all())
    if ((*lr_scales)[&weight - engine.list.all().data()] != 0) lowest = std::min(lowest, weight.layer);
  return lowest;
}

void Pass::check_abort() const {
  if (abort_.load(std::memory_order_relaxed)) throw Error("ERR_ABORTED", "the call was aborted by its signal");
}

}  // namespace mot
