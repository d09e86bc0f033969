// Attention over pages of the cache, in float32 whatever the pages hold. A query's result never depends on which others
// share the reading: each lane has a sum of its own, over the width or over the slots in their order.

inline Floats numbers(const uint16_t* p) { return halves(p); }
inline Floats numbers(const float* p) { return load(p); }

template <int N, int Groups, class Number>
inline void scores_of(const float* queries, int stride, const Number* keys, int width, float* out, int out_stride) {
    Floats acc[N][Groups];
    for (auto& row : acc)
        for (Floats& each : row) each = zero();
    for (int c = 0; c < width; c++) {
        Floats key[Groups];
        for (int g = 0; g < Groups; g++) key[g] = numbers(keys + size_t(c) * kSlots + 16 * g);
        for (int q = 0; q < N; q++) {
            const Floats own = all(queries[size_t(q) * stride + c]);
            for (int g = 0; g < Groups; g++) acc[q][g] = fma(key[g], own, acc[q][g]);
        }
    }
    for (int q = 0; q < N; q++)
        for (int g = 0; g < Groups; g++) store(out + size_t(q) * out_stride + 16 * g, acc[q][g]);
}

template <int N, int Vectors, class Number>
inline void mix_of(float* sums, int stride, const float* weights, int weight_stride, const Number* values, int width,
                   int count) {
    Floats acc[N][Vectors];
    for (int q = 0; q < N; q++)
        for (int v = 0; v < Vectors; v++) acc[q][v] = load(sums + size_t(q) * stride + 16 * v);
    for (int s = 0; s < count; s++) {
        Floats value[Vectors];
        for (int v = 0; v < Vectors; v++) value[v] = numbers(values + size_t(s) * width + 16 * v);
        for (int q = 0; q < N; q++) {
            const Floats own = all(weights[size_t(q) * weight_stride + s]);
            for (int v = 0; v < Vectors; v++) acc[q][v] = fma(value[v], own, acc[q][v]);
        }
    }
    for (int q = 0; q < N; q++)
        for (int v = 0; v < Vectors; v++) store(sums + size_t(q) * stride + 16 * v, acc[q][v]);
}

// Call work with the number of queries known to the compiler, in groups that fit into the registers.
template <int Most, class Work>
inline void in_groups(int n, Work work) {
    int q = 0;
    for (; q + Most <= n; q += Most) work(q, std::integral_constant<int, Most>{});
    if constexpr (Most > 1)
        if (q < n) in_groups<Most - 1>(n - q, [&](int more, auto size) { work(q + more, size); });
}

template <class Number>
void scores(const float* queries, int n, int stride, const void* page, int width, int count, float* out,
            int out_stride) {
    const Number* keys = static_cast<const Number*>(page);
    in_groups<kQueriesAtOnce>(n, [&](int q, auto size) {
        const float* own = queries + size_t(q) * stride;
        if (count <= 16)
            scores_of<size, 1>(own, stride, keys, width, out + size_t(q) * out_stride, out_stride);
        else
            scores_of<size, 4>(own, stride, keys, width, out + size_t(q) * out_stride, out_stride);
    });
}

template <class Number>
void mix(float* sums, int n, int stride, const float* weights, int weight_stride, const void* page, int width,
         int count) {
    const Number* values = static_cast<const Number*>(page);
    in_groups<kQueriesAtOnce>(n, [&](int q, auto size) {
        float* own = sums + size_t(q) * stride;
        const float* shares = weights + size_t(q) * weight_stride;
        int c = 0;
        for (; c + 64 <= width; c += 64)
            mix_of<size, 4>(own + c, stride, shares, weight_stride, values + c, width, count);
        for (; c < width; c += 16) mix_of<size, 1>(own + c, stride, shares, weight_stride, values + c, width, count);
    });
}

template <class Number>
void put(const float* key, const float* value, int width, int slot, void* keys, void* values) {
    for (int c = 0; c < width; c += 16) {
        Number column[16];
        store(column, load(key + c));
        for (int i = 0; i < 16; i++) static_cast<Number*>(keys)[size_t(c + i) * kSlots + slot] = column[i];
        store(static_cast<Number*>(values) + size_t(slot) * width + c, load(value + c));
    }
}

template <class Number>
void copy_key(const void* from_keys, int from, void* keys, int slot, int width) {
    for (int c = 0; c < width; c++)
        static_cast<Number*>(keys)[c * kSlots + slot] = static_cast<const Number*>(from_keys)[c * kSlots + from];
}

template <class Number>
void copy_value(const void* from_values, int from, void* values, int slot, int width) {
    std::memcpy(static_cast<Number*>(values) + slot * width, static_cast<const Number*>(from_values) + from * width,
                width * sizeof(Number));
}

void softmax(float* x, int n, float* maximum, float* total) {
    Floats largest = load(x);
    for (int i = 16; i < n; i += 16) largest = greater(largest, load(x + i));
    *maximum = greatest(largest);
    Floats acc = zero();
    for (int i = 0; i < n; i += 16) {
        const Floats e = exponential(add(load(x + i), all(-*maximum)));
        store(x + i, e);
        acc = add(acc, e);
    }
    *total = sum(acc);
}

void fold(float* maximum, float* total, float* sums, const float* other_maximum, const float* other_total,
          const float* other_sums, int width) {
    const float both = std::max(*maximum, *other_maximum);
    float shrink[16] = {*maximum - both, *other_maximum - both};
    store(shrink, exponential(load(shrink)));
    const Floats own = all(shrink[0]), theirs = all(shrink[1]);
    for (int c = 0; c < width; c += 16) store(sums + c, fma(load(other_sums + c), theirs, mul(load(sums + c), own)));
    *total = *total * shrink[0] + *other_total * shrink[1];
    *maximum = both;
}

template <class Number>
constexpr Paging paging() {
    return Paging{sizeof(Number), scores<Number>, mix<Number>, put<Number>, copy_key<Number>, copy_value<Number>};
}
