// The functions of the binding benchmark through V8's own interface, by nan; the same two as in napi_calls.cpp.
#include <nan.h>

namespace {

// Does nothing.
NAN_METHOD(empty) { (void)info; }

// Reads the pointer of a Float32Array and gives its first element.
NAN_METHOD(first) {
  Nan::TypedArrayContents<float> view(info[0]);
  info.GetReturnValue().Set((*view)[0]);
}

NAN_MODULE_INIT(init) {
  NAN_EXPORT(target, empty);
  NAN_EXPORT(target, first);
}

}  // namespace

NAN_MODULE_WORKER_ENABLED(nan_calls, init)
