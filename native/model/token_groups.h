// From a batch in sequence order to what the kernels need: tokens sorted by modality once (stable: within a modality,
// sequence order, but image patches before its other tokens), the two permutations, each part's segments, and noise
// mixed into patches. Runs off the training thread.
#pragma once
#include <cstdint>
#include <vector>

#include "model/batch.h"
#include "model/config.h"
#include "model/patch_group.h"
#include "ops/types.h"

namespace mot {

// One tower of the MLP in a model with experts: how its rows are routed. A tower without experts has a single one,
// which gets every row. A batch fixes how many routed rows there are; the layers' routers choose which.
struct RoutedTower {
  std::vector<Segment> segments;  // the tower's rows; named tower 0, since weights of a router are one tower's own
  int64_t tower;
  int64_t experts;  // 1 or more
  bool has_router;
  int64_t capacity;    // expert choice: rows of each expert; 0: token choice
  int64_t top_k;       // token choice: experts of each row; 0: expert choice
  int64_t first_set;   // weight set of the first expert
  int64_t begin, end;  // its routed rows
};

struct TokenGroups {
  int64_t tokens = 0;        // T
  int64_t rows = 0;          // N >= T: with the padding rows of the backend's row alignment
  int64_t kv_slots = 0;      // size of the cache that kv_row, kv_start and kv_end address; 0: keys are the batch's own
  std::vector<int32_t> row;  // [T] sorted row of sequence position t
  std::vector<int32_t> seq_row;                   // [N] sequence position of sorted row n; -1: padding
  std::vector<int32_t> token, position, target;   // [N] sorted; padding: -1, 0, -1; token of a patch: -1
  std::vector<int32_t> target_modality;           // [N] sorted; -1 where there is no target
  std::vector<int32_t> kv_row;                    // [N] key/value row that sorted row n writes; -1: padding
  std::vector<int32_t> kv_start, kv_end;          // [T] sequence order
  std::vector<Segment> self_attn, mlp, final;     // segments of each part (neighbours of one tower merged)
  std::vector<Segment> attention_norm, ffn_norm;  // likewise
  std::vector<int64_t> target_count;              // [modalities]
  std::vector<RoutedTower> routed;                // [towers of mlp]; empty in a model without experts
  int64_t routed_rows = 0;                        // R: of all towers
  PatchGroup patches;
};

// How key/value rows are addressed. Training and evaluation: row t of the batch itself. With a cache: the slot of each
// token, given by the caller, and keys counted in slots.
struct KvAddress {
  const int32_t* slot = nullptr;  // [T]; nullptr: token t is key t
  int64_t slots = 0;              // with slot: size of the cache
};

// Validates every value against config and limits and throws Error("ERR_BATCH") naming array, index, value and bound:
// token, modality, position, target and target_modality in range; intervals inside [0, keys), non-decreasing, each
// row seeing itself; a row with a target has kv_end <= its own key + 1; patch_row, image_of_row and timestep in range,
// no row of latents used twice, patches of the diffusion's modality, latents and noise finite. Throws
// Error("ERR_UNSUPPORTED") for a batch that decodes with expert choice, unless the limits allow its approximation.
TokenGroups make_token_groups(const ModelConfig& config, const Limits& limits, int64_t row_alignment,
                              const Batch& batch, const KvAddress& kv = {});

// Most routed rows that a batch of limits.tokens can have; 0 in a model without experts.
int64_t max_routed_rows(const ModelConfig& config, const Limits& limits, int64_t row_alignment);

}  // namespace mot
