#include "cases/case_types.h"

namespace mot {

void add_embedding_cases(std::vector<OpCase>& list) {
  struct Size {
    const char* name;
    int64_t rows, d_model, vocab, pad;
  };
  for (Size s : {Size{"none", 0, 8, 5, 0},
                 {"one", 1, 8, 5, 0},
                 {"odd_width", 37, 43, 11, 0},
                 {"strided", 130, 72, 50, 5},
                 {"rare_tokens", 65, 320, 5000, 0},
                 {"bench", 16384, 1024, 16384, 0}}) {
    std::vector<int32_t> token(static_cast<size_t>(s.rows));
    // Few distinct ids repeat often; every seventh row is padding.
    for (int64_t n = 0; n < s.rows; n++)
      token[static_cast<size_t>(n)] = n % 7 == 3 ? -1 : static_cast<int32_t>(n * n * 31 % s.vocab);
    OpCase c;
    const double values = static_cast<double>(s.rows * s.d_model);
    c.info = {"embedding", std::string("embedding/") + s.name, values, values * 12, values, values * 12};
    c.tensors = {{"table", s.vocab, s.d_model},
                 {"token", 1, s.rows, Role::kInput, Store::kInt},
                 {"out", s.rows, s.d_model, Role::kOutput, Store::kWide, 1, s.pad},
                 {"out_copy", s.rows, s.d_model, Role::kOutput, Store::kOperand, 1, s.pad},
                 {"d_out", s.rows, s.d_model, Role::kInput, Store::kWide, 1, s.pad},
                 {"d_table", s.vocab, s.d_model, Role::kAccumulate}};
    c.tensors[1].ints = token;
    c.forward = [](const OpTable& ops, const Context& context, CaseArgs& args) {
      EmbeddingForward p = {args.matrix("table"), args.ints("token"), args.matrix("out"), args.matrix("out_copy")};
      return ops.embedding_forward(&context, &p);
    };
    c.backward = [](const OpTable& ops, const Context& context, CaseArgs& args) {
      EmbeddingBackward p = {args.ints("token"), args.matrix("d_out"), args.matrix("d_table")};
      return ops.embedding_backward(&context, &p);
    };
    c.outputs = {{"out", "d_out"}};
    c.gradients = {{"table", "d_table"}};
    c.limits.rows = s.rows, c.limits.d_model = s.d_model, c.limits.vocab = s.vocab;
    list.push_back(c);
  }
}

}  // namespace mot
