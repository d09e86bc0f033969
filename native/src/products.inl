// Matrix times rows of activations.
//
// A row's result never depends on the other rows: integer dot products are exact, and the float32 sums run over the
// column blocks in the same order for every number of rows.

// How many bytes ahead of use weights are requested into the first cache, and into a farther one.
constexpr size_t kSoon = 1536, kLater = 24 * 1024;

// Bytes of activations that stay in the first cache while panels are read.
constexpr size_t kNear = 24 * 1024;

// Requests weights before they are needed. Where several tiles of rows read the same panels, each tile requests its
// share of the next ones, so that memory is read all the time.
class Prefetcher {
  public:
    Prefetcher(int turn, int turns, size_t bytes) : next_(turn), turns_(turns), distance_(turns == 1 ? kSoon : bytes) {}

    template <class Panel>
    void prefetch(const Panel& panel, int b) {
        if (b != next_) return;
        next_ += turns_;
        constexpr size_t size = sizeof(Panel) / Panel::kBlocks;
        const char* from = reinterpret_cast<const char*>(&panel) + b % Panel::kBlocks * size + distance_;
        for (size_t i = 0; i < size; i += 64) {
            __builtin_prefetch(from + i, 0, 3);
            __builtin_prefetch(from + i + kLater, 0, 1);
        }
    }

  private:
    int next_;
    const int turns_;
    const size_t distance_;
};

template <int M, class Panel>
inline void fast_tile(const Panel* panels, const Activations& x, int row, Prefetcher prefetcher, float* y, int stride) {
    const int blocks = x.columns / kColumns;
    Floats acc[M];
    for (int m = 0; m < M; m++) acc[m] = zero();
    for (int b = 0; b < blocks; b++) {
        const Panel& panel = panels[b / Panel::kBlocks];
        const int block = b % Panel::kBlocks;
        const int8_t* codes = x.codes + size_t(row) * x.columns + b * kColumns;
        const size_t at = size_t(row) * blocks + b;
        prefetcher.prefetch(panel, b);
        unrolled<0, kParts<Panel>>([&](auto part) {
            constexpr int first = 8 / kParts<Panel> * part, last = first + 8 / kParts<Panel>;
            Ints sum[M];
            for (int m = 0; m < M; m++) sum[m] = start_of<Panel>(x.minus + 2 * (at + size_t(m) * blocks), part);
            unrolled<first, last>([&](auto k) {
                const Ints bytes = line<k>(panel, block);
                for (int m = 0; m < M; m++)
                    sum[m] = dot<kLargest<Panel>>(sum[m], bytes, codes + size_t(m) * x.columns + 4 * k);
            });
            const Floats scale = scale_of(panel, block, part);
            for (int m = 0; m < M; m++)
                acc[m] = fma(to_floats(sum[m]), mul(scale, all(x.scale[at + size_t(m) * blocks])), acc[m]);
        });
        if constexpr (kCentre<Panel> == 0) {
            const Floats offset = offset_of(panel, block, zero());
            for (int m = 0; m < M; m++) acc[m] = fma(offset, all(x.weighted[at + size_t(m) * blocks]), acc[m]);
        }
    }
    for (int m = 0; m < M; m++) store(y + size_t(row + m) * stride, acc[m]);
}

// Call work(c, weights) for the 32 columns of a block, with the weights of sixteen rows in float32.
template <class Panel, class Work>
inline void each_column(const Panel& panel, int block, Work work) {
    if constexpr (kFloating<Panel>) {
        for (int c = 0; c < kColumns; c++) work(c, column(panel, c));
    } else {
        unrolled<0, kParts<Panel>>([&](auto part) {
            constexpr int first = 8 / kParts<Panel> * part, last = first + 8 / kParts<Panel>;
            const Floats scale = scale_of(panel, block, part), offset = offset_of(panel, block, scale);
            unrolled<first, last>([&](auto k) {
                const Ints bytes = line<k>(panel, block);
                unrolled<0, 4>([&](auto i) { work(4 * k + i, fma(to_floats(byte_of<i>(bytes)), scale, offset)); });
            });
        });
    }
}

template <int M, class Panel>
inline void exact_tile(const Panel* panels, const Activations& x, int row, Prefetcher prefetcher, float* y,
                       int stride) {
    Floats acc[M];
    for (int m = 0; m < M; m++) acc[m] = zero();
    for (int b = 0; b < x.columns / kColumns; b++) {
        const Panel& panel = panels[b / Panel::kBlocks];
        const float* values = x.values + size_t(row) * x.columns + b * kColumns;
        prefetcher.prefetch(panel, b);
        each_column(panel, b % Panel::kBlocks, [&](int c, Floats weights) {
            for (int m = 0; m < M; m++) acc[m] = fma(weights, all(values[size_t(m) * x.columns + c]), acc[m]);
        });
    }
    for (int m = 0; m < M; m++) store(y + size_t(row + m) * stride, acc[m]);
}

// Rows [row, last) in tiles of at most M, the first of which is tile `turn` of `turns`.
template <int M, bool Fast, class Panel>
inline void tiles(const Panel* panels, const Activations& x, int row, int last, int turn, int turns, float* y,
                  int stride) {
    const size_t bytes = sizeof(Panel) * (x.columns / kColumns / Panel::kBlocks);
    for (; row + M <= last; row += M)
        if constexpr (Fast)
            fast_tile<M>(panels, x, row, Prefetcher(turn++, turns, bytes), y, stride);
        else
            exact_tile<M>(panels, x, row, Prefetcher(turn++, turns, bytes), y, stride);
    if constexpr (M > 1)
        if (row < last) tiles<M - 1, Fast>(panels, x, row, last, turn, turns, y, stride);
}
template <int M, bool Fast, class Panel>
inline void tiles(const Panel* panels, const Activations& x, int row, int last, float* y, int stride) {
    tiles<M, Fast>(panels, x, row, last, 0, (last - row + M - 1) / M, y, stride);
}

// Call work(panels of one row of panels, row, last, y) for the rows in groups that stay in the first cache.
template <class Panel, class Work>
void walk(const Panel* panels, const Matrix& matrix, const Activations& x, float* y, int first, int last, Work work) {
    const int blocks = matrix.columns / kColumns / Panel::kBlocks;
    const int group = std::max(1, int(kNear / size_t(matrix.columns)) / 16) * 16;
    for (int row = 0; row < x.rows; row += group)
        for (int p = first; p < last; p++)
            work(panels + size_t(p) * blocks, row, std::min(row + group, x.rows), y + p * kRows);
}

void product(const Matrix& matrix, const Activations& x, float* y, int stride, int first, int last) {
    with_panels(matrix, [&](auto* panels) {
        constexpr bool floating = kFloating<std::remove_const_t<std::remove_pointer_t<decltype(panels)>>>;
        walk(panels, matrix, x, y, first, last, [&](auto* own, int row, int end, float* out) {
            if constexpr (floating)
                return tiles<kTile, false>(own, x, row, end, out, stride);
            else if (x.codes)
                return tiles<kTile, true>(own, x, row, end, out, stride);
            else  // Rarely used, so that smaller tiles keep the code small.
                return tiles<std::min(kTile, 4), false>(own, x, row, end, out, stride);
        });
    });
}
