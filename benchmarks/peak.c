/* The peak of fused multiply-adds in float32: GFLOP/s of so many threads for so long.

       gcc -O3 -march=native -ffp-contract=fast -pthread benchmarks/peak.c -o peak && ./peak THREADS SECONDS

   Each thread keeps CHAINS independent sums in registers, so that every FMA unit always has one to do: more chains
   than latency times units, fewer than there are registers. A multiply-add counts as two operations. */

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif
#define LANES (BYTES / 4)
#define CHAINS 12
#define STEPS 100000

typedef float lanes __attribute__((vector_size(BYTES)));

struct work {
    double seconds;
    double operations;
    double took;
    float sum;
};

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + 1e-9 * (double)at.tv_nsec;
}

static lanes all(float value)
{
    lanes made;
    for (int lane = 0; lane < LANES; lane++)
        made[lane] = value;
    return made;
}

static void *multiply_and_add(void *argument)
{
    struct work *work = argument;
    lanes sums[CHAINS], factor = all(0.999f), term = all(0.001f);
    for (int chain = 0; chain < CHAINS; chain++)
        sums[chain] = all((float)chain);
    double started = now();
    do {
        for (int step = 0; step < STEPS; step++)
#pragma GCC unroll 12
            for (int chain = 0; chain < CHAINS; chain++)
                sums[chain] = sums[chain] * factor + term;
        work->operations += 2.0 * LANES * CHAINS * STEPS;
        work->took = now() - started;
    } while (work->took < work->seconds);
    for (int chain = 0; chain < CHAINS; chain++)
        for (int lane = 0; lane < LANES; lane++)
            work->sum += sums[chain][lane]; /* printed, so that nothing is left out */
    return NULL;
}

int main(int count, char **words)
{
    int threads = count > 1 ? atoi(words[1]) : 1;
    double seconds = count > 2 ? atof(words[2]) : 1.0;
    if (threads < 1 || threads > 1024 || seconds <= 0) {
        fprintf(stderr, "usage: peak THREADS SECONDS\n");
        return 2;
    }
    struct work *works = calloc((size_t)threads, sizeof *works);
    pthread_t *running = calloc((size_t)threads, sizeof *running);
    if (works == NULL || running == NULL)
        return 1;
    for (int thread = 0; thread < threads; thread++) {
        works[thread].seconds = seconds;
        if (pthread_create(&running[thread], NULL, multiply_and_add, &works[thread]) != 0)
            return 1;
    }
    double gflops = 0;
    float sum = 0;
    for (int thread = 0; thread < threads; thread++) {
        pthread_join(running[thread], NULL);
        gflops += 1e-9 * works[thread].operations / works[thread].took;
        sum += works[thread].sum;
    }
    printf("%.3f %d %g\n", gflops, LANES, (double)sum);
    return 0;
}
