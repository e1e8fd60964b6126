#include "verify/e4m3_oracle.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace blockmoe::verify {
namespace {

constexpr int kMantissaBits = 3;
constexpr int kExponentBias = 7;
constexpr int kSmallestExponent = 1 - kExponentBias;  // of normal numbers, and the one that subnormals share
constexpr double kLargest = 448.0;

double value_of(int code) {
  const int exponent = (code >> kMantissaBits) & 0xf;
  const int mantissa = code & 0x7;
  const double sign = (code & 0x80) != 0 ? -1.0 : 1.0;
  if (exponent == 0xf && mantissa == 0x7) return std::numeric_limits<double>::quiet_NaN();
  if (exponent == 0) return sign * std::ldexp(mantissa, kSmallestExponent - kMantissaBits);
  return sign * std::ldexp(8 + mantissa, exponent - kExponentBias - kMantissaBits);
}

std::array<double, 256> make_values() {
  std::array<double, 256> values{};
  for (int code = 0; code < 256; ++code) values[static_cast<std::size_t>(code)] = value_of(code);
  return values;
}

}  // namespace

const std::array<double, 256>& e4m3_values() {
  static const std::array<double, 256> values = make_values();
  return values;
}

double round_to_e4m3(double x) {
  if (std::isnan(x)) return x;
  if (std::abs(x) >= kLargest) return std::copysign(kLargest, x);
  int exponent = 0;
  std::frexp(x, &exponent);  // |x| in [0.5, 1) * 2^exponent
  const int step = std::max(exponent - 1, kSmallestExponent) - kMantissaBits;
  return std::ldexp(std::nearbyint(std::ldexp(x, -step)), step);
}

}  // namespace blockmoe::verify
