// griddepcontrol.h: kernels run one after the other.
#pragma once

namespace blockmoe::ptx {

inline void griddepcontrol_wait() {}
inline void griddepcontrol_launch_dependents() {}

}  // namespace blockmoe::ptx
