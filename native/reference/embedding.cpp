// Contract: ops/embedding.h.
#include "reference/reference.h"

namespace mot::reference {

int embedding_forward(const Context*, const EmbeddingForward* p) {
  for (int64_t n = 0; n < p->out.rows; n++) {
    const int64_t token = p->token[n];
    for (int64_t d = 0; d < p->out.cols; d++) {
      const double x = token < 0 ? 0 : get(p->table, token, d);
      set(p->out, n, d, x);
      if (given(p->out_copy)) set(p->out_copy, n, d, x);
    }
  }
  return 0;
}

int embedding_backward(const Context*, const EmbeddingBackward* p) {
  for (int64_t n = 0; n < p->d_out.rows; n++) {
    const int64_t token = p->token[n];
    if (token < 0) continue;
    for (int64_t d = 0; d < p->d_out.cols; d++) add(p->d_table, token, d, get(p->d_out, n, d));
  }
  return 0;
}

}  // namespace mot::reference
