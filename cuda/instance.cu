// This file is compiled once for each line of cuda/instances.txt and each data type of
// that line. The build defines FUSEDNORM_SCHEME, FUSEDNORM_ARGS and FUSEDNORM_DATA.
#define FUSEDNORM_STRING(text) #text
// clang-format off
#define FUSEDNORM_HEADER(scheme) FUSEDNORM_STRING(cuda/kernels/scheme/launch.cuh)
// clang-format on
#include FUSEDNORM_HEADER(FUSEDNORM_SCHEME)

namespace fusednorm {
namespace cuda {

template Status FUSEDNORM_SCHEME::Start<FUSEDNORM_DATA>(const FUSEDNORM_ARGS&,
                                                        const Plan&, Stream);

}  // namespace cuda
}  // namespace fusednorm
