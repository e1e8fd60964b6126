// ceilings.hpp: is a run of `bench` worth anything? Its ceilings against what the card reaches when it is in order.
#pragma once

#include "bench_report.hpp"

namespace blockmoe::cli {

// Sets the report's is_void and adds the reasons to its notes. A card that is not in the table is not judged, and a note
// says so; neither is a ceiling that was not measured.
void judge_ceilings(BenchReport& report);

}  // namespace blockmoe::cli
