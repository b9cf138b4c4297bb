# node-gyp and the tools that call it (npm without an install script, electron-rebuild) end with the same addon as
# `npm run build`: this target only hands over to cmake-js, which places build/Release/mot.node.
{
  "targets": [
    {
      "target_name": "mot_cmake",
      "type": "none",
      "actions": [
        {
          "action_name": "cmake_js",
          "inputs": ["CMakeLists.txt"],
          "outputs": ["build/Release/mot.node.always"],
          "action": ["node", "scripts/native.mjs"]
        }
      ]
    }
  ]
}
