// contract_sweep.cpp: the contract's sigmoid and SiLU on every fp32 number, for docs/numerics.md. Takes four minutes
// of a processor; the unit tests take every 401st.
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "contract_accuracy.hpp"

namespace {

void print(const char* what, const blockmoe::test::WorstCase& worst) {
  std::printf("%-44s %.6g at %.9g\n", what, worst.error, static_cast<double>(worst.at));
}

}  // namespace

int main() {
  using blockmoe::test::Accuracy;
  using blockmoe::test::kRanks;
  const std::int64_t threads = std::max(1U, std::thread::hardware_concurrency());
  std::vector<Accuracy> parts(static_cast<std::size_t>(threads));
  {
    std::vector<std::jthread> pool;
    pool.reserve(parts.size());
    for (std::int64_t i = 0; i < threads; ++i) {
      // Neighbouring parts share a number, so that descents between them are seen.
      pool.emplace_back([&parts, i, threads] {
        const std::int64_t begin = kRanks * i / threads;
        const std::int64_t end = kRanks * (i + 1) / threads;
        parts[static_cast<std::size_t>(i)] = blockmoe::test::measure_accuracy(begin, std::min(end + 1, kRanks), 1);
      });
    }
  }
  Accuracy all;
  for (const Accuracy& part : parts) all.add(part);
  std::printf("%lld fp32 numbers\n", static_cast<long long>(kRanks));
  print("sigmoid, ulp", all.sigmoid_ulp);
  print("sigmoid, steps from correctly rounded", all.sigmoid_steps);
  print("silu for x >= -87, ulp", all.silu_ulp);
  print("silu for x < -87, absolute", all.silu_absolute);
  std::printf("sigmoid is smaller than at the number before %lld times, by fp32 numbers: %g at most\n",
              static_cast<long long>(all.descents), all.descent_steps.error);
  std::printf("sigmoid is not 1 where it must be %lld times, not 0 where it must be %lld times\n",
              static_cast<long long>(all.not_one), static_cast<long long>(all.not_zero));
  const bool holds = all.sigmoid_ulp.error <= 2.5 && all.silu_ulp.error <= 5.0 && all.silu_absolute.error <= 1e-36 &&
                     all.not_one == 0 && all.not_zero == 0;
  return holds ? EXIT_SUCCESS : EXIT_FAILURE;
}
