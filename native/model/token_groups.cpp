#include "model/token_groups.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace mot {
namespace {

void check_arrays(const ModelConfig& config, const Limits& limits, const Batch& batch) {
  if (batch.target && !batch.target_modality)
    throw errorf("ERR_BATCH", "[batch] expected target_modality together with target");
  for (int64_t t = 0; t < batch.tokens; t++) {
    check_value("token", t, batch.token[t], 0, config.vocab - 1);
    check_value("modality", t, batch.modality[t], 0, config.modalities - 1);
    check_value("position", t, batch.position[t], 0, limits.positions - 1);
    if (batch.target) {
      check_value("target", t, batch.target[t], -1, config.vocab - 1);
      if (batch.target[t] >= 0) check_value("target_modality", t, batch.target_modality[t], 0, config.modalities - 1);
    }
  }
}

void check_slots(const Batch& batch, const KvAddress& kv) {
  std::vector<bool> taken(kv.slots);
  for (int64_t t = 0; t < batch.tokens; t++) {
    check_value("slot", t, kv.slot[t], 0, kv.slots - 1);
    const int32_t slot = kv.slot[t];
    if (taken[slot])
      throw errorf("ERR_BATCH", "[batch] expected the slots of a call to differ, got slot[%lld] = %d a second time",
                   static_cast<long long>(t), kv.slot[t]);
    taken[slot] = true;
  }
}

// Attention's tiling rests on these; see ops/attention.h.
void check_intervals(const Batch& batch, const KvAddress& kv) {
  const int64_t keys = kv.slot ? kv.slots : batch.tokens;
  for (int64_t t = 0; t < batch.tokens; t++) {
    const int64_t own = kv.slot ? kv.slot[t] : t;
    const bool has_target = batch.target && batch.target[t] >= 0;
    check_value("kv_start", t, batch.kv_start[t], t == 0 ? 0 : batch.kv_start[t - 1], own);
    check_value("kv_end", t, batch.kv_end[t], own + 1, has_target ? own + 1 : keys);
    if (t > 0) check_value("kv_end", t, batch.kv_end[t], batch.kv_end[t - 1], keys);
  }
}

// Segments of one part from the rows of each modality. Neighbours of one tower are merged where no padding parts them.
std::vector<Segment> make_segments(const PartTowers& part, const std::vector<Segment>& rows_of_modality) {
  std::vector<Segment> segments;
  for (size_t modality = 0; modality < rows_of_modality.size(); modality++) {
    const auto [begin, end, _] = rows_of_modality[modality];
    const int32_t tower = part.tower_of_modality[modality];
    if (begin == end) continue;
    if (!segments.empty() && segments.back().tower == tower && segments.back().end == begin)
      segments.back().end = end;
    else
      segments.push_back({begin, end, tower});
  }
  return segments;
}

int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// Lays out the routed rows of all towers, one after the other.
void make_routed(const ModelConfig& config, int64_t row_alignment, bool decode, TokenGroups& groups) {
  int64_t set = 0, row = 0;
  for (size_t tower = 0; tower < config.experts.size(); tower++) {
    const Experts& experts = config.experts[tower];
    RoutedTower routed{};
    routed.tower = static_cast<int64_t>(tower);
    routed.has_router = experts.count > 0;
    routed.experts = std::max<int64_t>(experts.count, 1);
    int64_t tokens = 0;
    for (const Segment& segment : groups.mlp) {
      if (segment.tower != static_cast<int32_t>(tower)) continue;
      routed.segments.push_back({segment.begin, segment.end, 0});
      tokens += segment.end - segment.begin;
    }
    const bool expert_choice = routed.has_router && experts.routing == Routing::kExpertChoice;
    routed.begin = row;
    if (expert_choice && !decode) {
      routed.capacity = experts.capacity(tokens);
      row += routed.experts * round_up(routed.capacity, row_alignment);
    } else {
      routed.top_k = !routed.has_router ? 1 : expert_choice ? experts.approximate_top_k() : experts.top_k;
      row = round_up(row + tokens * routed.top_k + routed.experts * (row_alignment - 1), row_alignment);
    }
    routed.end = row;
    routed.first_set = set;
    set += routed.experts;
    groups.routed.push_back(std::move(routed));
  }
  groups.routed_rows = row;
}

}  // namespace

int64_t max_routed_rows(const ModelConfig& config, const Limits& limits, int64_t row_alignment) {
  if (!config.has_experts()) return 0;
  double most = 1;  // routed rows of a token
  int64_t rounding = 0;
  for (const Experts& experts : config.experts) {
    const int64_t count = std::max<int64_t>(experts.count, 1);
    rounding += (count + 1) * (row_alignment - 1);
    if (experts.count == 0) continue;
    const bool expert_choice = experts.routing == Routing::kExpertChoice;
    if (expert_choice) rounding += count;  // the capacity of each is rounded up
    most = std::max(most, expert_choice ? experts.capacity_factor : static_cast<double>(experts.top_k));
    if (expert_choice && limits.approximate_routing)
      most = std::max(most, static_cast<double>(experts.approximate_top_k()));
  }
  return static_cast<int64_t>(std::ceil(most * static_cast<double>(limits.tokens))) + rounding;
}

TokenGroups make_token_groups(const ModelConfig& config, const Limits& limits, int64_t row_alignment,
                              const Batch& batch, const KvAddress& kv) {
  const int64_t T = batch.tokens;
  if (T < 1) throw errorf("ERR_BATCH", "[batch] expected at least one token, got %lld", static_cast<long long>(T));
  if (T > limits.tokens)
    throw errorf("ERR_LIMIT", "[batch] expected at most %lld tokens, which the model was created for, got %lld",
                 static_cast<long long>(limits.tokens), static_cast<long long>(T));
  if (kv.slot && kv.slots != limits.kv_slots)
    throw errorf("ERR_LIMIT", "[batch] expected a cache of %lld slots, which the model was created for, got %lld",
                 static_cast<long long>(limits.kv_slots), static_cast<long long>(kv.slots));
  if (kv.slot && config.looks_ahead() && !limits.approximate_routing)
    throw errorf("ERR_UNSUPPORTED",
                 "[model] cannot decode token by token: with expert choice, which tokens an expert takes depends on "
                 "later ones. Train with token_choice, or create the model with approximate_routing, which sends every "
                 "token to its most probable experts instead");
  check_arrays(config, limits, batch);
  if (kv.slot) check_slots(batch, kv);
  check_intervals(batch, kv);
  const int64_t patches = check_patches(config, limits, batch);

  // Counting sort by modality; every group starts at a multiple of the row alignment, image patches come first in
  // theirs.
  std::vector<Segment> rows_of_modality(config.modalities, Segment{0, 0, 0});
  for (int64_t t = 0; t < T; t++) rows_of_modality[batch.modality[t]].end++;
  int64_t rows = 0;
  for (Segment& group : rows_of_modality) {
    const int64_t count = group.end;
    group.begin = group.end = static_cast<int32_t>(rows);  // end: the next row to fill
    rows += (count + row_alignment - 1) / row_alignment * row_alignment;
  }
  Segment patch_rows{0, 0, 0};  // likewise
  if (patches > 0) {
    Segment& group = rows_of_modality[config.diffusion->modality];
    patch_rows.begin = patch_rows.end = group.begin;
    group.end += static_cast<int32_t>(patches);
  }

  TokenGroups groups;
  groups.tokens = T;
  groups.rows = rows;
  groups.kv_slots = kv.slot ? kv.slots : 0;
  groups.row.resize(T);
  groups.seq_row.assign(rows, -1);
  groups.token.assign(rows, -1);
  groups.position.assign(rows, 0);
  groups.target.assign(rows, -1);
  groups.target_modality.assign(rows, -1);
  groups.kv_row.assign(rows, -1);
  groups.kv_start.assign(batch.kv_start, batch.kv_start + T);
  groups.kv_end.assign(batch.kv_end, batch.kv_end + T);
  groups.target_count.assign(config.modalities, 0);
  for (int64_t t = 0; t < T; t++) {
    const bool patch = is_patch(batch, t);
    const int32_t n = patch ? patch_rows.end++ : rows_of_modality[batch.modality[t]].end++;
    groups.row[t] = n;
    groups.seq_row[n] = static_cast<int32_t>(t);
    groups.token[n] = patch ? -1 : batch.token[t];
    groups.position[n] = batch.position[t];
    groups.kv_row[n] = kv.slot ? kv.slot[t] : static_cast<int32_t>(t);
    if (batch.target && batch.target[t] >= 0) {
      groups.target[n] = batch.target[t];
      groups.target_modality[n] = batch.target_modality[t];
      groups.target_count[batch.target_modality[t]]++;
    }
  }
  groups.self_attn = make_segments(config.self_attn, rows_of_modality);
  groups.mlp = make_segments(config.mlp, rows_of_modality);
  groups.final = make_segments(config.final, rows_of_modality);
  groups.attention_norm = make_segments(config.attention_norm(), rows_of_modality);
  groups.ffn_norm = make_segments(config.ffn_norm(), rows_of_modality);
  if (config.has_experts()) make_routed(config, row_alignment, kv.slot != nullptr, groups);
  groups.patches = make_patch_group(config, batch, groups.row, patch_rows.begin, patches);
  return groups;
}

}  // namespace mot
