// The plugin configuration.

#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

// What the plugin was told.
struct Settings {
  // Name of the cluster that is asked.
  std::string cluster;
  // `:authority` of what it is asked.
  std::string authority;
  // Value of the response header `x-tour-greeting`.
  std::string greeting;
  // Time between two ticks, in milliseconds.
  uint32_t period = 0;
};

// Why the plugin cannot run with its configuration.
struct Refusal {
  std::string reason;
};

// Reads the configuration.
std::variant<Settings, Refusal> ParseSettings(std::string_view configuration);
