// How each kind of panel is read, over sixteen lanes: lines of codes, their scales and their offsets.
//
// Sums of codes are exact integers. A code loses `kCentre` before it is scaled, and this is taken off the sum.

template <class Panel>
constexpr bool kFloating = false;  // Whether the panel holds floating-point numbers.
template <>
constexpr bool kFloating<PanelHalf> = true;
template <>
constexpr bool kFloating<PanelBrain> = true;
template <>
constexpr bool kFloating<PanelFloat> = true;

template <class Panel>
constexpr int kCentre = 0;
template <>
constexpr int kCentre<Panel8> = 128;
template <>
constexpr int kCentre<Panel6K> = 32;

template <class Panel>
constexpr int kLargest = 31;  // The largest code; it decides whether sums of two products fit into 16 bits.
template <>
constexpr int kLargest<Panel8> = 255;
template <>
constexpr int kLargest<Panel6K> = 63;

template <class Panel>
constexpr int kParts = 1;  // Parts of a block, each with a scale of its own.
template <>
constexpr int kParts<Panel6K> = 2;

template <int K>
inline Ints nibbles(const uint8_t* codes) {
    Ints both = int_load(codes + 64 * (K / 2));
    return bits<0x0f>(shifted<(K % 2 ? -4 : 0)>(both));
}

// Line K of a block: columns 4K .. 4K + 3 of the sixteen rows, as unsigned bytes.
template <int K>
inline Ints line(const Panel4& panel, int) {
    return nibbles<K>(panel.codes);
}
template <int K>
inline Ints line(const Panel5& panel, int) {
    return either(nibbles<K>(panel.codes), bits<0x10>(shifted<4 - K>(int_load(panel.fifth))));
}
template <int K>
inline Ints line(const Panel8& panel, int) {
    return int_load(panel.codes + 64 * K);
}
template <int K>
inline Ints line(const Panel4K& panel, int block) {
    return nibbles<K>(panel.codes[block]);
}
template <int K>
inline Ints line(const Panel5K& panel, int block) {
    return either(nibbles<K>(panel.codes[block]), bits<0x10>(shifted<4 - K>(int_load(panel.fifth[block]))));
}
template <int K>
inline Ints line(const Panel6K& panel, int block) {
    return either(nibbles<K>(panel.codes[block]),
                  bits<0x30>(shifted<4 - 2 * (K % 4)>(int_load(panel.high[block] + 64 * (K / 4)))));
}

template <class Panel>
inline Floats scale_of(const Panel& panel, int, int) {
    return halves(panel.scale);
}
inline Floats scale_of(const Panel4K& panel, int block, int) {
    return mul(halves(panel.per_scale), unsigned_bytes(panel.scale[block]));
}
inline Floats scale_of(const Panel5K& panel, int block, int) {
    return mul(halves(panel.per_scale), unsigned_bytes(panel.scale[block]));
}
inline Floats scale_of(const Panel6K& panel, int block, int part) {
    return mul(halves(panel.per_scale), signed_bytes(panel.scale[block][part]));
}

// What is added to scale * code: the panel's offset, or for centred codes -scale * centre.
template <class Panel>
inline Floats offset_of(const Panel& panel, int, Floats scale) {
    if constexpr (kCentre<Panel> != 0)
        return mul(scale, all(-float(kCentre<Panel>)));
    else
        return halves(panel.offset);
}
inline Floats offset_of(const Panel4K& panel, int block, Floats) {
    return mul(halves(panel.per_offset), unsigned_bytes(panel.offset[block]));
}
inline Floats offset_of(const Panel5K& panel, int block, Floats) {
    return mul(halves(panel.per_offset), unsigned_bytes(panel.offset[block]));
}

// The start of the sum of a part, from which its codes are centred.
template <class Panel>
inline Ints start_of(const int32_t* minus, int part) {
    if constexpr (kCentre<Panel> == 0)
        return int_all(0);
    else if constexpr (kParts<Panel> == 2)
        return times_power_of_two<5>(int_all(minus[part]));  // The centre 32.
    else
        return times_power_of_two<7>(int_add(int_all(minus[0]), int_all(minus[1])));  // The centre 128.
}

// The columns of a panel of floats, sixteen rows each.
inline Floats column(const PanelHalf& panel, int c) { return halves(panel.value + 16 * c); }
inline Floats column(const PanelBrain& panel, int c) { return brains(panel.value + 16 * c); }
inline Floats column(const PanelFloat& panel, int c) { return load(panel.value + 16 * c); }

// Call work(K) for K = first .. last - 1 with K known to the compiler.
template <int First, int Last, class Work>
inline void unrolled(Work work) {
    if constexpr (First < Last) {
        work(std::integral_constant<int, First>{});
        unrolled<First + 1, Last>(work);
    }
}
