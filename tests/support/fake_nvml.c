/* A libnvidia-ml.so.1 without a GPU: answers what the file named by $FAKE_NVML_SCENARIO says, which is read anew
 * whenever it changes (replace it by a rename). Its lines are written by tests/support/fake_gpus.py:
 *
 *   driver 535.183.01
 *   cuda 12.2
 *   gpu 0 uuid=GPU-1 name="Tesla T4" memory_mib=15360 used_mib=3 reserved_mib=0 utilisation=0,97 cc=7.5 minor=0
 *         bus=00000000:3B:00.0 brand=tesla mode=default mig=0 remap_pending=0 remap_failed=0 ecc=0 display=0
 *         persistence=1                                        (one line; an absent value is "not supported")
 *   mig gpu=0 uuid=MIG-1 profile=1g.5gb memory_mib=4864 used_mib=12 gi=7 ci=0
 *   process gpu=0 pid=4242 used_mib=38092 kind=compute gi=7 ci=0
 *   fail nvmlDeviceGetUtilizationRates 3 gpu=0                 (the code; `gpu=` where it fails for one GPU alone)
 *   hang nvmlInit_v2 60                                        (seconds)
 *   nodes /dev                                                 (first: only GPUs whose node is there and opens are seen)
 *
 * Several values of `utilisation` are told in turn, call after call.
 */
#define _GNU_SOURCE
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef int nvmlReturn_t;
typedef void *nvmlDevice_t;
typedef unsigned int uint;
typedef unsigned long long ull;

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6,
       INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, ARGUMENT_VERSION_MISMATCH = 25 };
enum { MAX_GPUS = 16, MAX_MIGS = 8, MAX_PROCESSES = 256, MAX_RULES = 32, MAX_SAMPLES = 16, ABSENT = INT_MIN };
#define MIB (1024ULL * 1024ULL)
#define NOWHERE 0xFFFFFFFFu

struct mig { char uuid[96], profile[32]; int memory_mib, used_mib, gi, ci; };
struct gpu {
    char uuid[96], name[96], bus[32];
    int memory_mib, used_mib, reserved_mib, samples[MAX_SAMPLES], sample_count, cc_major, cc_minor, minor, brand;
    int mode, mig, remap_pending, remap_failed, ecc, display, persistence, mig_count;
    struct mig migs[MAX_MIGS];
};
struct process { int gpu, pid, used_mib, graphics, gi, ci; };
struct rule { char name[64]; int code, gpu, hang_s; };
static struct {
    char driver[80], nodes[80];
    int cuda, gpu_count, process_count, rule_count;
    struct gpu gpus[MAX_GPUS];
    struct process processes[MAX_PROCESSES];
    struct rule rules[MAX_RULES];
} world;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct stat seen;
static int initialized, told[MAX_GPUS];

/* --- the scenario ------------------------------------------------------------------------------------------ */

static const char *value_of(const char *line, const char *key, char *into, size_t size) {
    char wanted[40];
    snprintf(wanted, sizeof wanted, " %s=", key);
    const char *found = strstr(line, wanted);
    if (!found) return NULL;
    found += strlen(wanted);
    char end = *found == '"' ? *found++ : ' ';
    size_t length = 0;
    while (found[length] && found[length] != end && found[length] != '\n' && length + 1 < size) length++;
    memcpy(into, found, length);
    into[length] = 0;
    return into;
}

static int number_of(const char *line, const char *key, int otherwise) {
    char text[64];
    return value_of(line, key, text, sizeof text) ? atoi(text) : otherwise;
}

static int word_of(const char *line, const char *key, const char *const *words, int otherwise) {
    char text[64];
    if (!value_of(line, key, text, sizeof text)) return otherwise;
    for (int i = 0; words[i]; i++)
        if (strcasecmp(words[i], text) == 0) return i;
    return otherwise;
}

static void read_gpu(const char *line) {
    static const char *const modes[] = {"default", "exclusive_thread", "prohibited", "exclusive", NULL};
    static const char *const brands[] = {"unknown", "quadro", "tesla", "nvs", "grid", "geforce", "titan", "vapps",
        "vpc", "vcs", "vws", "cloud_gaming", "quadro_rtx", "nvidia_rtx", "nvidia", "geforce_rtx", "titan_rtx", NULL};
    if (world.gpu_count == MAX_GPUS) return;
    struct gpu *gpu = &world.gpus[world.gpu_count++];
    char text[160];
    value_of(line, "uuid", gpu->uuid, sizeof gpu->uuid);
    value_of(line, "name", gpu->name, sizeof gpu->name);
    value_of(line, "bus", gpu->bus, sizeof gpu->bus);
    gpu->memory_mib = number_of(line, "memory_mib", 0);
    gpu->used_mib = number_of(line, "used_mib", 0);
    gpu->reserved_mib = number_of(line, "reserved_mib", 0);
    gpu->minor = number_of(line, "minor", ABSENT);
    gpu->mode = word_of(line, "mode", modes, ABSENT);
    gpu->brand = word_of(line, "brand", brands, ABSENT);
    gpu->mig = number_of(line, "mig", ABSENT);
    gpu->remap_pending = number_of(line, "remap_pending", ABSENT);
    gpu->remap_failed = number_of(line, "remap_failed", ABSENT);
    gpu->ecc = number_of(line, "ecc", ABSENT);
    gpu->display = number_of(line, "display", ABSENT);
    gpu->persistence = number_of(line, "persistence", ABSENT);
    gpu->cc_major = ABSENT;
    if (value_of(line, "cc", text, sizeof text)) sscanf(text, "%d.%d", &gpu->cc_major, &gpu->cc_minor);
    if (value_of(line, "utilisation", text, sizeof text))
        for (char *rest = text, *one; (one = strsep(&rest, ",")) && gpu->sample_count < MAX_SAMPLES;)
            gpu->samples[gpu->sample_count++] = atoi(one);
    snprintf(text, sizeof text, "%s/nvidia%d", world.nodes, gpu->minor);
    if (*world.nodes && access(text, R_OK | W_OK)) memset(&world.gpus[--world.gpu_count], 0, sizeof *gpu);
}

static void read_mig(const char *line) {
    int index = number_of(line, "gpu", 0);
    if (index < 0 || index >= world.gpu_count || world.gpus[index].mig_count == MAX_MIGS) return;
    struct mig *mig = &world.gpus[index].migs[world.gpus[index].mig_count++];
    value_of(line, "uuid", mig->uuid, sizeof mig->uuid);
    value_of(line, "profile", mig->profile, sizeof mig->profile);
    mig->memory_mib = number_of(line, "memory_mib", 0);
    mig->used_mib = number_of(line, "used_mib", 0);
    mig->gi = number_of(line, "gi", 0);
    mig->ci = number_of(line, "ci", 0);
}

static void read_process(const char *line) {
    if (world.process_count == MAX_PROCESSES) return;
    struct process *process = &world.processes[world.process_count++];
    char kind[16] = "";
    value_of(line, "kind", kind, sizeof kind);
    process->gpu = number_of(line, "gpu", 0);
    process->pid = number_of(line, "pid", 0);
    process->used_mib = number_of(line, "used_mib", ABSENT);
    process->graphics = strcmp(kind, "graphics") == 0;
    process->gi = number_of(line, "gi", (int)NOWHERE);
    process->ci = number_of(line, "ci", (int)NOWHERE);
}

static void read_rule(const char *line, int hangs) {
    if (world.rule_count == MAX_RULES) return;
    struct rule *rule = &world.rules[world.rule_count++];
    int number = 0;
    sscanf(line, "%*s %63s %d", rule->name, &number);
    *(hangs ? &rule->hang_s : &rule->code) = number;
    rule->gpu = number_of(line, "gpu", -1);
}

static void read_line(const char *line) {
    int major = 0, minor = 0;
    if (strncmp(line, "gpu ", 4) == 0) read_gpu(line);
    else if (strncmp(line, "mig ", 4) == 0) read_mig(line);
    else if (strncmp(line, "process ", 8) == 0) read_process(line);
    else if (strncmp(line, "fail ", 5) == 0) read_rule(line, 0);
    else if (strncmp(line, "hang ", 5) == 0) read_rule(line, 1);
    else if (strncmp(line, "nodes ", 6) == 0) sscanf(line, "nodes %79s", world.nodes);
    else if (strncmp(line, "driver ", 7) == 0) sscanf(line, "driver %79s", world.driver);
    else if (sscanf(line, "cuda %d.%d", &major, &minor) == 2) world.cuda = 1000 * major + 10 * minor;
}

static int read_world(void) {
    const char *path = getenv("FAKE_NVML_SCENARIO");
    struct stat now;
    if (!path || stat(path, &now)) return 0;
    if (now.st_ino == seen.st_ino && now.st_size == seen.st_size && now.st_mtim.tv_sec == seen.st_mtim.tv_sec
        && now.st_mtim.tv_nsec == seen.st_mtim.tv_nsec) return 1;
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    char line[1024];
    memset(&world, 0, sizeof world);
    while (fgets(line, sizeof line, file)) read_line(line);
    fclose(file);
    seen = now;
    return 1;
}

/* --- what every function begins and ends with ---------------------------------------------------------------- */

static nvmlReturn_t enter(const char *function, int gpu, int may_be_first) {
    pthread_mutex_lock(&lock);
    if (!read_world()) { pthread_mutex_unlock(&lock); return DRIVER_NOT_LOADED; }
    int code = initialized || may_be_first ? SUCCESS : UNINITIALIZED, hang_s = 0;
    for (int i = 0; i < world.rule_count; i++) {
        struct rule *rule = &world.rules[i];
        if (strcmp(rule->name, function) || (rule->gpu >= 0 && rule->gpu != gpu)) continue;
        if (rule->code) code = rule->code;
        if (rule->hang_s) hang_s = rule->hang_s;
    }
    if (hang_s) {
        pthread_mutex_unlock(&lock);
        nanosleep(&(struct timespec){.tv_sec = hang_s}, NULL);
        pthread_mutex_lock(&lock);
    }
    if (code) pthread_mutex_unlock(&lock);
    return code;
}

static nvmlReturn_t leave(nvmlReturn_t code) { pthread_mutex_unlock(&lock); return code; }

/* A handle is 0x1000 + 0x10 * GPU, and with 1 + its place for a MIG device; never dereferenced. */
static int gpu_of(nvmlDevice_t device) { return (int)(((size_t)device - 0x1000) >> 4); }
static int mig_of(nvmlDevice_t device) { return (int)((size_t)device & 0xF) - 1; }
static nvmlDevice_t handle(int gpu, int mig) { return (nvmlDevice_t)(size_t)(0x1000 + 0x10 * gpu + mig + 1); }

#define ENTER(gpu) do { nvmlReturn_t code_ = enter(__func__, gpu, 0); if (code_) return code_; } while (0)
#define ENTER_DEVICE(device) \
    ENTER(gpu_of(device)); \
    if (gpu_of(device) < 0 || gpu_of(device) >= world.gpu_count) return leave(INVALID_ARGUMENT); \
    struct gpu *gpu = &world.gpus[gpu_of(device)]; \
    struct mig *mig = mig_of(device) >= 0 ? &gpu->migs[mig_of(device)] : NULL; \
    (void)mig
#define SET(pointer, value) do { if ((value) == ABSENT) return leave(NOT_SUPPORTED); *(pointer) = (value); } while (0)

static nvmlReturn_t put(char *into, uint length, const char *text) {
    if (strlen(text) + 1 > length) return leave(INSUFFICIENT_SIZE);
    strcpy(into, text);
    return leave(SUCCESS);
}

/* --- NVML ---------------------------------------------------------------------------------------------------- */

nvmlReturn_t nvmlInit_v2(void) {
    nvmlReturn_t code = enter(__func__, -1, 1);
    if (code) return code;
    initialized++;
    return leave(SUCCESS);
}

nvmlReturn_t nvmlInitWithFlags(uint flags) { (void)flags; return nvmlInit_v2(); }
nvmlReturn_t nvmlShutdown(void) { ENTER(-1); initialized--; return leave(SUCCESS); }

const char *nvmlErrorString(nvmlReturn_t code) {
    switch (code) {
    case 0: return "Success";
    case 1: return "Uninitialized";
    case 2: return "Invalid Argument";
    case 3: return "Not Supported";
    case 4: return "Insufficient Permissions";
    case 6: return "Not Found";
    case 7: return "Insufficient Size";
    case 9: return "Driver Not Loaded";
    case 10: return "Timeout";
    case 13: return "Function Not Found";
    case 15: return "GPU is lost";
    case 16: return "GPU requires restart";
    case 18: return "Driver/library version mismatch";
    case 25: return "Argument version mismatch";
    default: return "Unknown Error";
    }
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, uint length) { ENTER(-1); return put(version, length, world.driver); }
nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version) { ENTER(-1); *version = world.cuda; return leave(SUCCESS); }
nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version) { return nvmlSystemGetCudaDriverVersion_v2(version); }
nvmlReturn_t nvmlDeviceGetCount_v2(uint *count) { ENTER(-1); *count = (uint)world.gpu_count; return leave(SUCCESS); }

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(uint index, nvmlDevice_t *device) {
    ENTER((int)index);
    if (index >= (uint)world.gpu_count) return leave(INVALID_ARGUMENT);
    *device = handle((int)index, -1);
    return leave(SUCCESS);
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) {
    ENTER(-1);
    for (int i = 0; i < world.gpu_count; i++) {
        if (strcmp(world.gpus[i].uuid, uuid) == 0) { *device = handle(i, -1); return leave(SUCCESS); }
        for (int k = 0; k < world.gpus[i].mig_count; k++)
            if (strcmp(world.gpus[i].migs[k].uuid, uuid) == 0) { *device = handle(i, k); return leave(SUCCESS); }
    }
    return leave(NOT_FOUND);
}

nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, uint *index) {
    ENTER_DEVICE(device);
    *index = (uint)gpu_of(device);
    return leave(SUCCESS);
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, uint length) {
    ENTER_DEVICE(device);
    char whole[160];
    snprintf(whole, sizeof whole, "%s MIG %s", gpu->name, mig ? mig->profile : "");
    return put(name, length, mig ? whole : gpu->name);
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, uint length) {
    ENTER_DEVICE(device);
    return put(uuid, length, mig ? mig->uuid : gpu->uuid);
}

nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, uint *minor) {
    ENTER_DEVICE(device);
    SET(minor, gpu->minor);
    return leave(SUCCESS);
}

struct pci { char legacy[16]; uint domain, bus, device, id, subsystem; char bus_id[32]; };
nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, struct pci *pci) {
    ENTER_DEVICE(device);
    memset(pci, 0, sizeof *pci);
    sscanf(gpu->bus, "%x:%x:%x", &pci->domain, &pci->bus, &pci->device);
    strcpy(pci->bus_id, gpu->bus);
    return leave(SUCCESS);
}

struct memory { ull total, free, used; };
nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, struct memory *memory) {
    ENTER_DEVICE(device);
    memory->total = MIB * (ull)(mig ? mig->memory_mib : gpu->memory_mib);
    memory->used = MIB * (ull)(mig ? mig->used_mib : gpu->used_mib + gpu->reserved_mib);
    memory->free = memory->total - memory->used;
    return leave(SUCCESS);
}

struct memory_v2 { uint version; ull total, reserved, free, used; };
nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, struct memory_v2 *memory) {
    ENTER_DEVICE(device);
    if (memory->version != (sizeof *memory | 2u << 24)) return leave(ARGUMENT_VERSION_MISMATCH);
    memory->total = MIB * (ull)(mig ? mig->memory_mib : gpu->memory_mib);
    memory->used = MIB * (ull)(mig ? mig->used_mib : gpu->used_mib);
    memory->reserved = mig ? 0 : MIB * (ull)gpu->reserved_mib;
    memory->free = memory->total - memory->used - memory->reserved;
    return leave(SUCCESS);
}

struct utilization { uint gpu, memory; };
nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, struct utilization *rates) {
    ENTER_DEVICE(device);
    if (mig || gpu->mig == 1 || !gpu->sample_count) return leave(NOT_SUPPORTED);
    rates->gpu = (uint)gpu->samples[told[gpu_of(device)]++ % gpu->sample_count];
    rates->memory = 0;
    return leave(SUCCESS);
}

struct info_v1 { uint pid; ull used; };
struct info_v2 { uint pid; ull used; uint gi, ci; };
static nvmlReturn_t list(nvmlDevice_t device, struct mig *mig, int graphics, int version, uint *count, void *infos) {
    uint room = *count, found = 0;
    for (int i = 0; i < world.process_count; i++) {
        struct process *process = &world.processes[i];
        if (process->gpu != gpu_of(device) || process->graphics != graphics) continue;
        if (mig && (process->gi != mig->gi || process->ci != mig->ci)) continue;
        if (found < room && infos) {
            ull used = process->used_mib == ABSENT ? ~0ULL : MIB * (ull)process->used_mib;
            if (version == 1)
                ((struct info_v1 *)infos)[found] = (struct info_v1){(uint)process->pid, used};
            else
                ((struct info_v2 *)infos)[found] =
                    (struct info_v2){(uint)process->pid, used, (uint)process->gi, (uint)process->ci};
        }
        found++;
    }
    *count = found;
    return leave(found > room ? INSUFFICIENT_SIZE : SUCCESS);
}

#define PROCESSES(name, graphics, version) \
    nvmlReturn_t name(nvmlDevice_t device, uint *count, void *infos) { \
        ENTER_DEVICE(device); \
        (void)gpu; \
        return list(device, mig, graphics, version, count, infos); \
    }
PROCESSES(nvmlDeviceGetComputeRunningProcesses, 0, 1)
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v2, 0, 2)
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v3, 0, 3)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses, 1, 1)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v2, 1, 2)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v3, 1, 3)

nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor) {
    ENTER_DEVICE(device);
    SET(major, gpu->cc_major);
    *minor = gpu->cc_minor;
    return leave(SUCCESS);
}

#define NUMBER(name, field) \
    nvmlReturn_t name(nvmlDevice_t device, int *value) { \
        ENTER_DEVICE(device); \
        SET(value, gpu->field); \
        return leave(SUCCESS); \
    }
NUMBER(nvmlDeviceGetBrand, brand)
NUMBER(nvmlDeviceGetComputeMode, mode)
NUMBER(nvmlDeviceGetPersistenceMode, persistence)
NUMBER(nvmlDeviceGetDisplayActive, display)
NUMBER(nvmlDeviceGetDisplayMode, display)

nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, int kind, int counter, ull *count) {
    ENTER_DEVICE(device);
    (void)counter;
    if (gpu->ecc == ABSENT) return leave(NOT_SUPPORTED);
    *count = kind == 1 ? (ull)gpu->ecc : 0;
    return leave(SUCCESS);
}

nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t device, uint *corrected, uint *uncorrected, uint *pending, uint *failed) {
    ENTER_DEVICE(device);
    SET(pending, gpu->remap_pending);
    SET(failed, gpu->remap_failed);
    *corrected = 0;
    *uncorrected = *pending;
    return leave(SUCCESS);
}

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, uint *current, uint *pending) {
    ENTER_DEVICE(device);
    SET(current, gpu->mig);
    *pending = *current;
    return leave(SUCCESS);
}

nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, uint *count) {
    ENTER_DEVICE(device);
    *count = gpu->mig == ABSENT ? 0 : MAX_MIGS;
    return leave(SUCCESS);
}

nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, uint index, nvmlDevice_t *found) {
    ENTER_DEVICE(device);
    if (index >= (uint)gpu->mig_count) return leave(NOT_FOUND);
    *found = handle(gpu_of(device), (int)index);
    return leave(SUCCESS);
}

nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t device, uint *id) {
    ENTER_DEVICE(device);
    if (!mig) return leave(NOT_SUPPORTED);
    *id = (uint)mig->gi;
    return leave(SUCCESS);
}

nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t device, uint *id) {
    ENTER_DEVICE(device);
    if (!mig) return leave(NOT_SUPPORTED);
    *id = (uint)mig->ci;
    return leave(SUCCESS);
}
