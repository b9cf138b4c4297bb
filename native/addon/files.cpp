#include "addon/files.h"

#include <vector>

#include "addon/arguments.h"
#include "addon/environment.h"
#include "addon/results.h"
#include "core/error.h"

namespace mot::addon {

Napi::Function SafetensorsReader::define(Napi::Env env) {
  return DefineClass(
      env, "Safetensors",
      {InstanceMethod<&SafetensorsReader::tensors>("tensors"), InstanceMethod<&SafetensorsReader::metadata>("metadata"),
       InstanceMethod<&SafetensorsReader::read>("read"), InstanceMethod<&SafetensorsReader::close>("close")});
}

SafetensorsReader::SafetensorsReader(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  guarded(info.Env(), [&] {
    file_ = std::make_unique<SafetensorsFile>(to_path(info[0], "path"));
    return info.Env().Undefined();
  });
}

Napi::Value open_safetensors(const Napi::CallbackInfo& info) {
  return Environment::of(info.Env())->safetensors_class.New({info[0]});
}

const SafetensorsFile& SafetensorsReader::file() const {
  if (!file_) throw errorf("ERR_DISPOSED", "the file was closed; open it again.");
  return *file_;
}

Napi::Value SafetensorsReader::tensors(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    Napi::Array array = Napi::Array::New(info.Env());
    uint32_t i = 0;
    for (const TensorInfo& tensor : file().tensors()) {
      Napi::Object o = tensor_to_js(info.Env(), tensor.name, tensor.shape);
      o.Set("dtype", tensor.dtype);
      array[i++] = o;
    }
    return array;
  });
}

Napi::Value SafetensorsReader::metadata(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    Napi::Object o = Napi::Object::New(info.Env());
    for (const auto& [key, value] : file().metadata())
      // Defined, not set: a key such as __proto__ is a key like any other.
      o.DefineProperty(
          Napi::PropertyDescriptor::Value(key, Napi::String::New(info.Env(), value), napi_default_jsproperty));
    return o;
  });
}

Napi::Value SafetensorsReader::read(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const std::string name = to_string(info[0], "name");
    const TensorInfo* tensor = file().find(name);
    if (!tensor) throw Error("ERR_TENSOR_NAME", "the file has no tensor " + name + ".");
    const int64_t bits = dtype_bits(tensor->dtype), count = (tensor->end - tensor->begin) * 8 / bits;
    const int64_t begin = to_integer(info[1], "begin", 0, count), end = to_integer(info[2], "end", begin, count);
    if (begin * bits % 8 != 0 || end * bits % 8 != 0)
      throw errorf("ERR_ARGUMENT", "expected begin and end at whole bytes of a tensor of %s.", tensor->dtype.c_str());
    Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(info.Env(), static_cast<size_t>((end - begin) * bits / 8));
    file().read(*tensor, begin * bits / 8, end * bits / 8, buffer.Data());
    return buffer;
  });
}

Napi::Value SafetensorsReader::close(const Napi::CallbackInfo& info) {
  file_.reset();
  return info.Env().Undefined();
}

namespace {

struct OwnedTensor {
  std::string name, dtype;
  std::vector<int64_t> shape;
  std::vector<uint8_t> data;
};

OwnedTensor to_tensor(const Napi::Value& value) {
  Napi::Object o = to_object(value, "tensor");
  OwnedTensor tensor;
  tensor.name = to_string(o.Get("name"), "tensor.name");
  tensor.dtype = to_string(o.Get("dtype"), "tensor.dtype");
  Napi::Array shape = to_array(o.Get("shape"), "tensor.shape");
  for (uint32_t i = 0; i < shape.Length(); i++)
    tensor.shape.push_back(to_integer(shape.Get(i), "tensor.shape", 0, int64_t{1} << 53));
  tensor.data = to_bytes(o.Get("data"), "tensor.data");
  return tensor;
}

}  // namespace

Napi::Value write_safetensors_file(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    auto environment = Environment::of(info.Env());
    std::string path = to_path(info[0], "path");
    Napi::Array list = to_array(info[1], "tensors");
    auto tensors = std::make_shared<std::vector<OwnedTensor>>();
    for (uint32_t i = 0; i < list.Length(); i++) tensors->push_back(to_tensor(list.Get(i)));
    auto metadata = to_string_map(info[2], "metadata");
    return environment->run(environment->files_queue(), [path, tensors, metadata, stop = &environment->ending()] {
      std::vector<TensorToWrite> views;
      for (const OwnedTensor& t : *tensors)
        views.push_back({t.name, t.dtype, t.shape, t.data.data(), static_cast<int64_t>(t.data.size())});
      return text(write_safetensors(path, views, metadata, stop));
    });
  });
}

}  // namespace mot::addon
