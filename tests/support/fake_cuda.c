/* A libcuda.so.1 without a GPU: who takes memory of one stands in the scenario of fake_nvml.c afterwards, as a
 * process that is there as long as it lives. The GPUs are those of $FAKE_NVML_SCENARIO, by their UUIDs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, INVALID_DEVICE = 101, NO_DEVICE = 100, UNKNOWN = 999, MAX_GPUS = 16 };

static char uuids[MAX_GPUS][96];
static int count, current = -1;

int cuInit(unsigned flags) {
    (void)flags;
    const char *path = getenv("FAKE_NVML_SCENARIO");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file) return NO_DEVICE;
    char line[1024];
    for (count = 0; fgets(line, sizeof line, file) && count < MAX_GPUS;) {
        const char *uuid = strncmp(line, "gpu ", 4) ? NULL : strstr(line, " uuid=");
        if (uuid) sscanf(uuid, " uuid=%95s", uuids[count++]);
    }
    fclose(file);
    return SUCCESS;
}

int cuDeviceGetCount(int *into) {
    *into = count;
    return SUCCESS;
}

int cuDeviceGet(int *device, int index) {
    if (index < 0 || index >= count) return INVALID_DEVICE;
    *device = index;
    return SUCCESS;
}

int cuDeviceGetUuid(unsigned char *into, int device) {
    const char *digits = uuids[device] + strlen("GPU-");
    for (int i = 0; i < 16; i++) {
        if (*digits == '-') digits++;
        if (sscanf(digits, "%2hhx", &into[i]) != 1) return UNKNOWN;
        digits += 2;
    }
    return SUCCESS;
}

int cuCtxCreate_v2(void **context, unsigned flags, int device) {
    (void)flags;
    *context = &uuids[device];
    current = device;
    return SUCCESS;
}

int cuMemAlloc_v2(unsigned long long *pointer, size_t bytes) {
    FILE *file = current < 0 ? NULL : fopen(getenv("FAKE_NVML_SCENARIO"), "a");
    if (!file) return UNKNOWN;
    fprintf(file, "process gpu=%d pid=%d used_mib=%zu kind=compute\n", current, (int)getpid(), bytes >> 20);
    fclose(file);
    *pointer = 1;
    return SUCCESS;
}
