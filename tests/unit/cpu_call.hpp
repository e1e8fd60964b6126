// cpu_call.hpp: a RandomCall on the CPU backend's stages, for any path and any cut into blocks and chunks.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "cpu/call.hpp"
#include "cpu/instruction_set.hpp"
#include "random_call.hpp"

namespace blockmoe::test {

inline constexpr cpu::InstructionSet kEverySet[] = {cpu::InstructionSet::plain, cpu::InstructionSet::avx2,
                                                    cpu::InstructionSet::avx512_bf16, cpu::InstructionSet::amx};

/// A test once for each path; those that this machine does not run are skipped.
class EachPath : public testing::TestWithParam<cpu::InstructionSet> {
 protected:
  void SetUp() override {
    if (!cpu::is_available(GetParam())) GTEST_SKIP() << "this machine does not run " << cpu::name_of(GetParam());
  }
  const cpu::Products& products() const { return cpu::products_of(GetParam()); }
};

inline std::string path_name(const testing::TestParamInfo<cpu::InstructionSet>& info) {
  return std::string(cpu::name_of(info.param));
}

/// Memory that a backend takes as aligned to 256 bytes.
class AlignedMemory {
 public:
  explicit AlignedMemory(std::size_t bytes) : memory_(bytes + kAlignment) {}
  void* data() {
    const auto address = reinterpret_cast<std::uintptr_t>(memory_.data());
    return memory_.data() + (kAlignment - address % kAlignment) % kAlignment;
  }

 private:
  static constexpr std::size_t kAlignment = 256;
  std::vector<std::uint8_t> memory_;
};

/// The call's tokens [first, first + tokens), with memory of its own for workspace and output.
class CpuCall {
 public:
  CpuCall(const RandomCall& call, cpu::InstructionSet set, int threads, std::int64_t first, std::int64_t tokens)
      : CpuCall(call, set, cpu::choose_sizes(call.geometry(), tokens, threads, call.recipe().intermediate_type), first,
                tokens) {}

  CpuCall(const RandomCall& call, cpu::InstructionSet set, int threads)
      : CpuCall(call, set, threads, 0, call.recipe().tokens) {}

  CpuCall(const RandomCall& call, cpu::InstructionSet set, const cpu::Sizes& sizes, std::int64_t first,
          std::int64_t tokens)
      : geometry_(call.geometry()),
        weights_(call.weights()),
        activations_(call.activations()),
        pool_(sizes.threads),
        workspace_(cpu::workspace_bytes(geometry_, sizes, cpu::products_of(set))),
        output_(static_cast<std::size_t>(tokens * geometry_.hidden), kUnwritten),
        call_{geometry_,
              weights_,
              activations_,
              cpu::products_of(set),
              pool_,
              sizes,
              cpu::place_buffers(geometry_, sizes, cpu::products_of(set), workspace_.data())} {
    const std::int64_t bytes = activations_.routing_logits_type == contract::FloatType::f32 ? 4 : 2;
    activations_.tokens = tokens;
    activations_.routing_logits = static_cast<const std::uint8_t*>(activations_.routing_logits) +
                                  first * activations_.routing_logits_pitch * bytes;
    activations_.hidden += first * activations_.hidden_pitch;
    activations_.hidden_scale += first;
    activations_.output = output_.data();
    activations_.output_pitch = geometry_.hidden;
  }
  CpuCall(const CpuCall&) = delete;
  CpuCall& operator=(const CpuCall&) = delete;

  const cpu::Call& call() const { return call_; }
  const std::vector<std::uint16_t>& output() const { return output_; }

  static constexpr std::uint16_t kUnwritten = 0x7fab;  // a NaN that no rounding gives

 private:
  contract::Geometry geometry_;
  contract::Weights weights_;
  contract::Activations activations_;
  cpu::ThreadPool pool_;
  AlignedMemory workspace_;
  std::vector<std::uint16_t> output_;
  cpu::Call call_;
};

}  // namespace blockmoe::test
