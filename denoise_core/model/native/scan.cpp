// The selective scan, forward and backward, for any C++17 compiler with GNU vector types (g++, clang++).
//
//   dt = softplus(delta + bias);  h_t = exp(dt_t A) h_{t-1} + dt_t u_t B_t;  y_t = sum_n C_t h_t + D u_t;  out = y silu(z)
//
// Shapes: B batch, D channels, N states, L time. A lane of a vector is a channel, so no sum crosses lanes inside the
// recurrence. Time goes in chunks of STEPS; the forward pass saves the state at every chunk's start, the backward pass
// runs each chunk again. Batch rows are independent: threads share them out, and nothing depends on how many there are.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#if defined(__AVX512F__)
#include <immintrin.h>
#define LANES 16
#elif defined(__AVX__)
#include <immintrin.h>
#define LANES 8
#else
#define LANES 4
#endif
#define STEPS 16

typedef float V __attribute__((vector_size(4 * LANES)));
typedef int32_t I __attribute__((vector_size(4 * LANES)));
typedef std::int64_t Index;

// A (B, D or N, L) tensor of any layout; null data means "not given".
struct Tensor {
    float* data;
    Index batch, channel, time;
};

struct Problem {
    Index batch, channels, length, states;
    Index softplus, threads;
    Tensor u, delta, z, b, c;
    const float *a, *skip, *bias;  // (D, N), (D), (D), contiguous; skip and bias may be null
    float* starts;                 // (B, chunks, groups, N, LANES), null when no gradient is wanted
    Tensor out;
    // Backward only. d_a, d_skip, d_bias hold one partial sum a row: (B, groups, N or 1, LANES).
    Tensor d_out, d_u, d_delta, d_z, d_b, d_c;
    float *d_a, *d_skip, *d_bias;
};

static inline V splat(float x) { return x - V{}; }

#if LANES == 16
static inline V round_nearest(V x) { return (V)_mm512_roundscale_ps((__m512)x, 0); }
static inline V times_power_of_two(V x, V power) { return (V)_mm512_scalef_ps((__m512)x, (__m512)power); }
#else
static inline V limit(V x, float low, float high) {
    x = x < splat(low) ? splat(low) : x;
    return x > splat(high) ? splat(high) : x;
}
static const float MAGIC = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, kept in the low bits
static inline V round_nearest(V x) {
    return (limit(x, -126.0f, 126.0f) + MAGIC) - MAGIC;
}
static inline V times_power_of_two(V x, V power) {
    V shifted = power + MAGIC;
    I bits, scale;
    std::memcpy(&bits, &x, sizeof x);
    std::memcpy(&scale, &shifted, sizeof shifted);
    bits += scale << 23;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}
#endif

// 2^f on [-1/2, 1/2], exact at 0; minimax relative error 2e-9 before rounding.
static inline V power_of_fraction(V f) {
    V p = splat(1.535336189514944e-4f);
    p = p * f + 1.3398874422326098e-3f;
    p = p * f + 9.618437357800632e-3f;
    p = p * f + 5.550332471099951e-2f;
    p = p * f + 2.4022647913626677e-1f;
    p = p * f + 6.931472028550824e-1f;
    return p * f + 1.0f;
}

static inline V exp2v(V x) {
#if LANES != 16
    x = limit(x, -126.0f, 126.0f);
#endif
    V whole = round_nearest(x);
    return times_power_of_two(power_of_fraction(x - whole), whole);
}

static const float LOG2E = 1.44269504088896341f;

// e^x with the reduction in two parts, for arguments that are not products already rounded.
static inline V expv(V x) {
#if LANES != 16
    x = limit(x, -87.0f, 87.0f);
#endif
    V whole = round_nearest(x * LOG2E);
    V rest = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
    return times_power_of_two(power_of_fraction(rest * LOG2E), whole);
}

static inline V absolute(V x) { return x < V{} ? -x : x; }

// softplus(x) and its derivative, the logistic function. log(1 + e) = 2 atanh(e / (2 + e)), e in (0, 1].
static inline V softplus(V x, V& slope) {
    V e = expv(-absolute(x));
    V both = 1.0f / ((e + 1.0f) * (e + 2.0f));  // one division for 1 / (1 + e) and e / (2 + e)
    V w = e * (e + 1.0f) * both, s = w * w;
    V p = splat(1.0f / 15);
    p = p * s + 1.0f / 13;
    p = p * s + 1.0f / 11;
    p = p * s + 1.0f / 9;
    p = p * s + 1.0f / 7;
    p = p * s + 1.0f / 5;
    p = p * s + 1.0f / 3;
    p = p * s + 1.0f;
    V r = (e + 2.0f) * both;
    slope = x < V{} ? e * r : r;
    return (x < V{} ? V{} : x) + 2.0f * w * p;
}

static inline V logistic(V x) { return 1.0f / (expv(-x) + 1.0f); }

static inline float sum_lanes(V x) {
    float total = 0;
    for (int i = 0; i < LANES; ++i) total += x[i];
    return total;
}

// One chunk of one lane group: `steps` vectors of `count` channels, from or to any layout. Absent lanes read zero.
static inline void load_tile(const Tensor& t, Index row, Index first, int count, Index start, int steps, V* tile) {
    const float* from = t.data + row * t.batch + first * t.channel + start * t.time;
    if (count == LANES && t.channel == 1) {
        for (int k = 0; k < steps; ++k) std::memcpy(&tile[k], from + k * t.time, sizeof(V));
        return;
    }
    float* flat = reinterpret_cast<float*>(tile);
    if (count < LANES) std::memset(static_cast<void*>(tile), 0, sizeof(V) * steps);
    for (int lane = 0; lane < count; ++lane)
        for (int k = 0; k < steps; ++k) flat[k * LANES + lane] = from[lane * t.channel + k * t.time];
}

static inline void store_tile(const Tensor& t, Index row, Index first, int count, Index start, int steps, const V* tile) {
    float* to = t.data + row * t.batch + first * t.channel + start * t.time;
    if (count == LANES && t.channel == 1) {
        for (int k = 0; k < steps; ++k) std::memcpy(to + k * t.time, &tile[k], sizeof(V));
        return;
    }
    const float* flat = reinterpret_cast<const float*>(tile);
    for (int lane = 0; lane < count; ++lane)
        for (int k = 0; k < steps; ++k) to[lane * t.channel + k * t.time] = flat[k * LANES + lane];
}

static inline V load_lanes(const float* from, int count) {
    V v = {};
    if (from) std::memcpy(&v, from, sizeof(float) * count);
    return v;
}

// What every row of the batch shares, laid out by lane group.
struct Shared {
    Index groups, chunks;
    std::vector<V> a, skip, bias;  // (groups, N), (groups), (groups); a is multiplied by log2(e)

    explicit Shared(const Problem& p)
        : groups((p.channels + LANES - 1) / LANES), chunks((p.length + STEPS - 1) / STEPS),
          a(groups * p.states), skip(groups), bias(groups) {
        for (Index g = 0; g < groups; ++g) {
            int count = width(p, g);
            for (Index n = 0; n < p.states; ++n)
                for (int lane = 0; lane < count; ++lane)
                    a[g * p.states + n][lane] = p.a[(g * LANES + lane) * p.states + n] * LOG2E;
            skip[g] = load_lanes(p.skip ? p.skip + g * LANES : nullptr, count);
            bias[g] = load_lanes(p.bias ? p.bias + g * LANES : nullptr, count);
        }
    }
    static int width(const Problem& p, Index group) {
        Index left = p.channels - group * LANES;
        return left < LANES ? static_cast<int>(left) : LANES;
    }
};

// B and C of one chunk, (N, STEPS), shared by all lane groups.
static void load_states(const Tensor& t, Index row, Index states, Index start, int steps, float* to) {
    for (Index n = 0; n < states; ++n)
        for (int k = 0; k < steps; ++k)
            to[n * STEPS + k] = t.data[row * t.batch + n * t.channel + (start + k) * t.time];
}

// The inputs of one chunk and lane group, step sizes ready.
struct Tile {
    V u[STEPS], dt[STEPS], dtu[STEPS], slope[STEPS];

    void load(const Problem& p, const Shared& shared, Index row, Index group, Index start, int steps) {
        int count = Shared::width(p, group);
        load_tile(p.u, row, group * LANES, count, start, steps, u);
        load_tile(p.delta, row, group * LANES, count, start, steps, dt);
        for (int k = 0; k < steps; ++k) {
            dt[k] += shared.bias[group];
            if (p.softplus) dt[k] = softplus(dt[k], slope[k]);
            dtu[k] = dt[k] * u[k];
        }
    }
};

static void forward_row(const Problem& p, const Shared& shared, Index row) {
    const Index N = p.states;
    std::vector<float> b(N * STEPS), c(N * STEPS);
    std::vector<V> state(shared.groups * N);
    Tile tile;
    V y[STEPS], z[STEPS];
    for (Index chunk = 0; chunk < shared.chunks; ++chunk) {
        const Index start = chunk * STEPS;
        const int steps = static_cast<int>(p.length - start < STEPS ? p.length - start : STEPS);
        load_states(p.b, row, N, start, steps, b.data());
        load_states(p.c, row, N, start, steps, c.data());
        for (Index group = 0; group < shared.groups; ++group) {
            V* h_group = &state[group * N];
            if (p.starts)
                std::memcpy(p.starts + ((row * shared.chunks + chunk) * shared.groups + group) * N * LANES, h_group,
                            sizeof(V) * N);
            tile.load(p, shared, row, group, start, steps);
            for (int k = 0; k < steps; ++k) y[k] = shared.skip[group] * tile.u[k];
            for (Index n = 0; n < N; ++n) {
                const V a = shared.a[group * N + n];
                const float *bn = &b[n * STEPS], *cn = &c[n * STEPS];
                V h = h_group[n];
                for (int k = 0; k < steps; ++k) {
                    h = exp2v(tile.dt[k] * a) * h + tile.dtu[k] * bn[k];
                    y[k] += h * cn[k];
                }
                h_group[n] = h;
            }
            const int count = Shared::width(p, group);
            if (p.z.data) {
                load_tile(p.z, row, group * LANES, count, start, steps, z);
                for (int k = 0; k < steps; ++k) y[k] *= z[k] * logistic(z[k]);
            }
            store_tile(p.out, row, group * LANES, count, start, steps, y);
        }
    }
}

// Gradients of one chunk and lane group that cross no other group.
struct Gradients {
    V dy[STEPS];           // with respect to y before the gate
    V from_input[STEPS];   // sum_n g B: the gradient of dt u
    V from_decay[STEPS];   // sum_n q A: the gradient of dt through the decay
    V y[STEPS];            // y again, for the gate's own gradient
};

// One state of one chunk: run it again, then go back through it. Adds to `grad`, to the lane sums of dB and dC, and
// to d_a; `carry` is a_{t+1} g_{t+1} on entry and a_t g_t of the chunk's first step on return.
static inline void backward_state(const Tile& tile, Gradients& grad, V a, V h, const float* b, const float* c, V* d_b,
                                  V* d_c, V& carry, V& d_a, int steps) {
    V decay[STEPS], before[STEPS + 1];
    before[0] = h;
    for (int k = 0; k < steps; ++k) {
        decay[k] = exp2v(tile.dt[k] * a);
        h = decay[k] * h + tile.dtu[k] * b[k];
        before[k + 1] = h;
        grad.y[k] += h * c[k];
        d_c[k] += h * grad.dy[k];
    }
    V g_next = carry, sum = d_a;
    for (int k = steps - 1; k >= 0; --k) {
        V g = grad.dy[k] * c[k] + g_next;
        d_b[k] += g * tile.dtu[k];
        grad.from_input[k] += g * b[k];
        g_next = g * decay[k];
        V q = g_next * before[k];
        grad.from_decay[k] += q * a;
        sum += q * tile.dt[k];
    }
    carry = g_next;
    d_a = sum;
}

// Gate: dy from d_out; the gate's own gradient needs y and comes afterwards.
static void open_gate(const Problem& p, Index row, Index first, int count, Index start, int steps, const V* d_out,
                      V* gate_slope, V* dy) {
    if (!p.z.data) {
        std::memcpy(dy, d_out, sizeof(V) * steps);
        return;
    }
    load_tile(p.z, row, first, count, start, steps, gate_slope);
    for (int k = 0; k < steps; ++k) {
        V z = gate_slope[k], s = logistic(z);
        dy[k] = d_out[k] * z * s;
        gate_slope[k] = s * (z * (1.0f - s) + 1.0f);
    }
}

static void close_gate(const Problem& p, Index row, Index first, int count, Index start, int steps, const V* d_out,
                       const V* y, V* gate_slope) {
    if (!p.z.data) return;
    for (int k = 0; k < steps; ++k) gate_slope[k] *= d_out[k] * y[k];
    store_tile(p.d_z, row, first, count, start, steps, gate_slope);
}

static void backward_row(const Problem& p, const Shared& shared, Index row) {
    const Index N = p.states;
    const float LN2 = 0.693147180559945309f;
    std::vector<float> b(N * STEPS), c(N * STEPS);
    std::vector<V> carry(shared.groups * N), d_a(shared.groups * N), d_skip(shared.groups), d_bias(shared.groups);
    std::vector<V> d_b(N * STEPS), d_c(N * STEPS);
    Tile tile;
    Gradients grad;
    V d_out[STEPS], gate_slope[STEPS];
    for (Index chunk = shared.chunks - 1; chunk >= 0; --chunk) {
        const Index start = chunk * STEPS;
        const int steps = static_cast<int>(p.length - start < STEPS ? p.length - start : STEPS);
        load_states(p.b, row, N, start, steps, b.data());
        load_states(p.c, row, N, start, steps, c.data());
        std::memset(static_cast<void*>(d_b.data()), 0, sizeof(V) * d_b.size());
        std::memset(static_cast<void*>(d_c.data()), 0, sizeof(V) * d_c.size());
        for (Index group = 0; group < shared.groups; ++group) {
            const Index first = group * LANES;
            const int count = Shared::width(p, group);
            tile.load(p, shared, row, group, start, steps);
            load_tile(p.d_out, row, first, count, start, steps, d_out);
            open_gate(p, row, first, count, start, steps, d_out, gate_slope, grad.dy);
            for (int k = 0; k < steps; ++k) {
                grad.from_input[k] = grad.from_decay[k] = V{};
                grad.y[k] = shared.skip[group] * tile.u[k];
            }
            const float* starts = p.starts + ((row * shared.chunks + chunk) * shared.groups + group) * N * LANES;
            for (Index n = 0; n < N; ++n) {
                V h;
                std::memcpy(&h, starts + n * LANES, sizeof h);
                const Index at = group * N + n;
                backward_state(tile, grad, shared.a[at], h, &b[n * STEPS], &c[n * STEPS], &d_b[n * STEPS],
                               &d_c[n * STEPS], carry[at], d_a[at], steps);
            }
            close_gate(p, row, first, count, start, steps, d_out, grad.y, gate_slope);
            for (int k = 0; k < steps; ++k) {
                V d_dt = grad.from_decay[k] * LN2 + grad.from_input[k] * tile.u[k];
                d_skip[group] += grad.dy[k] * tile.u[k];
                grad.from_input[k] = grad.from_input[k] * tile.dt[k] + shared.skip[group] * grad.dy[k];
                grad.from_decay[k] = p.softplus ? d_dt * tile.slope[k] : d_dt;
                d_bias[group] += grad.from_decay[k];
            }
            store_tile(p.d_u, row, first, count, start, steps, grad.from_input);
            store_tile(p.d_delta, row, first, count, start, steps, grad.from_decay);
        }
        for (Index n = 0; n < N; ++n)
            for (int k = 0; k < steps; ++k) {
                p.d_b.data[row * p.d_b.batch + n * p.d_b.channel + (start + k) * p.d_b.time] = sum_lanes(d_b[n * STEPS + k]);
                p.d_c.data[row * p.d_c.batch + n * p.d_c.channel + (start + k) * p.d_c.time] = sum_lanes(d_c[n * STEPS + k]);
            }
    }
    std::memcpy(p.d_a + row * shared.groups * N * LANES, d_a.data(), sizeof(V) * d_a.size());
    std::memcpy(p.d_skip + row * shared.groups * LANES, d_skip.data(), sizeof(V) * d_skip.size());
    std::memcpy(p.d_bias + row * shared.groups * LANES, d_bias.data(), sizeof(V) * d_bias.size());
}

template <typename Row>
static void for_each_row(const Problem& p, Row work) {
    const Index threads = p.threads < p.batch ? p.threads : p.batch;
    auto share = [&](Index k) {
        for (Index row = p.batch * k / threads; row < p.batch * (k + 1) / threads; ++row) work(row);
    };
    std::vector<std::thread> others;
    for (Index k = 1; k < threads; ++k) others.emplace_back(share, k);
    if (threads > 0) share(0);
    for (auto& other : others) other.join();
}

extern "C" {

int scan_lanes() { return LANES; }
int scan_steps() { return STEPS; }
Index scan_problem_size() { return sizeof(Problem); }

// 0, or 1 when memory or threads ran out.
int scan_forward(const Problem* p) {
    try {
        const Shared shared(*p);
        for_each_row(*p, [&](Index row) { forward_row(*p, shared, row); });
        return 0;
    } catch (...) {
        return 1;
    }
}

int scan_backward(const Problem* p) {
    try {
        const Shared shared(*p);
        for_each_row(*p, [&](Index row) { backward_row(*p, shared, row); });
        return 0;
    } catch (...) {
        return 1;
    }
}
}
