// How fast memory can be read here: the limit of decoding, where every token reads all weights once.
#pragma once

namespace nextok {

// In GB/s (10^9 bytes), the best of several reads of that much memory by this many threads, each its own share.
double read_bandwidth(int threads, int megabytes);

}  // namespace nextok
