/* A stand-in for libnvidia-ml.so.1 that speaks NVML's ABI, so that the unmodified nvidia-ml-py can be tested
 * without a GPU. Signatures and structures follow the NVML API reference (docs.nvidia.com/deploy/nvml-api).
 *
 * FAKE_NVML_SCENARIO names a file of `key=value` lines, read by nvmlInitWithFlags; the keys are in `struct scenario`
 * and, for a code instead of an answer, `CALL=NAME_OF_ERROR` (counter=NOT_SUPPORTED, field_186=INVALID_ARGUMENT);
 * a call's name is what its function hands to BEGIN. Codes hold from errors_from_s on;
 * thermal_violation_per_s nanoseconds of it come each second.
 * FAKE_NVML_LOG, if set, names a file to which the name of every call is appended.
 *
 * Power is idle_mw, and load_mw between load_from_s and load_to_s; t = 0 is origin_ns on CLOCK_MONOTONIC, or the
 * first initialisation. Tick n of the energy counter comes at
 * counter_phase_ms + n * counter_tick_ms + counter_jitter_ms * sin(n), and then holds all the energy up to it.
 */
#include <fcntl.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#define SUCCESS 0
#define INVALID_ARGUMENT 2
#define NO_PERMISSION 4
#define NOT_FOUND 6
#define INSUFFICIENT_SIZE 7
#define GPU_IS_LOST 15
#define UINT 1
#define ULL 3
#define ERRORS 64

typedef int nvmlReturn_t;
typedef struct { int index; } *nvmlDevice_t;

static struct { const char *name; int code; } codes[] = {
    {"UNINITIALIZED", 1}, {"INVALID_ARGUMENT", 2}, {"NOT_SUPPORTED", 3}, {"NO_PERMISSION", 4}, {"NOT_FOUND", 6},
    {"DRIVER_NOT_LOADED", 9}, {"TIMEOUT", 10}, {"FUNCTION_NOT_FOUND", 13}, {"GPU_IS_LOST", 15},
    {"RESET_REQUIRED", 16}, {"LIB_RM_VERSION_MISMATCH", 18}, {"UNKNOWN", 999}, {"YOUNGER_THAN_BINDINGS", 777},
};

static struct scenario {
    double gpus, origin_ns, idle_mw, load_mw, load_from_s, load_to_s, power_update_ms, average_bias_mw, zero_power;
    double counter_start_mj, counter_tick_ms, counter_phase_ms, counter_jitter_ms, counter_frozen, counter_drops_at_s;
    double limit_mw, default_limit_mw, clock_mhz, max_clock_mhz, memory_clock_mhz, temp_c, reasons;
    double power_violation_ns, thermal_violation_ns, memory_bytes, mig, virtualisation, processes, first_pid;
    double capability_major, capability_minor, cuda_version, lost_after_s, call_us;
    double counter_stops_at_s, errors_from_s, thermal_violation_per_s;
    char name[96], uuid[96], vbios[32], driver[80];
} s;

#define NUMBER(key) {#key, offsetof(struct scenario, key)}
static const struct { const char *key; size_t offset; } numbers[] = {
    NUMBER(gpus), NUMBER(origin_ns), NUMBER(idle_mw), NUMBER(load_mw), NUMBER(load_from_s), NUMBER(load_to_s),
    NUMBER(power_update_ms), NUMBER(average_bias_mw), NUMBER(zero_power), NUMBER(counter_start_mj), NUMBER(counter_tick_ms),
    NUMBER(counter_phase_ms), NUMBER(counter_jitter_ms), NUMBER(counter_frozen), NUMBER(counter_drops_at_s),
    NUMBER(limit_mw), NUMBER(default_limit_mw), NUMBER(clock_mhz), NUMBER(max_clock_mhz), NUMBER(memory_clock_mhz),
    NUMBER(temp_c), NUMBER(reasons), NUMBER(power_violation_ns), NUMBER(thermal_violation_ns), NUMBER(memory_bytes),
    NUMBER(mig), NUMBER(virtualisation), NUMBER(processes), NUMBER(first_pid), NUMBER(capability_major),
    NUMBER(capability_minor), NUMBER(cuda_version), NUMBER(lost_after_s), NUMBER(call_us),
    NUMBER(counter_stops_at_s), NUMBER(errors_from_s), NUMBER(thermal_violation_per_s),
};
static const struct { const char *key; size_t offset; size_t size; } texts[] = {
    {"name", offsetof(struct scenario, name), sizeof s.name},
    {"uuid", offsetof(struct scenario, uuid), sizeof s.uuid},
    {"vbios", offsetof(struct scenario, vbios), sizeof s.vbios},
    {"driver", offsetof(struct scenario, driver), sizeof s.driver},
};
static struct { char call[256]; int code; } errors[ERRORS];
static int error_count;

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static double now_s(void) { return (now_ns() - s.origin_ns) * 1e-9; }

static void fail(const char *what, const char *which) {
    fprintf(stderr, "fake NVML: %s: %s\n", what, which);
    exit(70);
}

static void set(char *line) {
    char *value = strchr(line, '=');
    if (!value) fail("no key=value line", line);
    *value++ = 0;
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (!strcmp(value, codes[i].name) && error_count < ERRORS) {
            snprintf(errors[error_count].call, sizeof errors[0].call, "%s", line);
            errors[error_count++].code = codes[i].code;
            return;
        }
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!strcmp(line, numbers[i].key)) {
            *(double *)((char *)&s + numbers[i].offset) = atof(value);
            return;
        }
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (!strcmp(line, texts[i].key)) {
            snprintf((char *)&s + texts[i].offset, texts[i].size, "%s", value);
            return;
        }
    fail("no such key or code", line);
}

static void read_scenario(void) {
    char line[256];
    const char *path = getenv("FAKE_NVML_SCENARIO");
    memset(&s, 0, sizeof s);
    error_count = 0;
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file) fail("FAKE_NVML_SCENARIO names no readable file", path ? path : "(unset)");
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        if (*line) set(line);
    }
    fclose(file);
    if (!s.origin_ns) s.origin_ns = now_ns();
}

static void log_call(const char *name) {
    char line[96];
    const char *path = getenv("FAKE_NVML_LOG");
    int file = path ? open(path, O_WRONLY | O_APPEND | O_CREAT, 0600) : -1;
    if (file < 0) return;
    int length = snprintf(line, sizeof line, "%s\n", name);
    if (write(file, line, length) < 0) fail("cannot write", path);
    close(file);
}

static int error_of(const char *call) {
    if (s.errors_from_s && now_s() < s.errors_from_s) return SUCCESS;
    for (int i = 0; i < error_count; i++)
        if (!strcmp(errors[i].call, call)) return errors[i].code;
    return SUCCESS;
}

/* What every getter does first: log, take its time, and fail where the scenario says so. */
static int begin(const char *function, const char *call) {
    log_call(function);
    int64_t until = now_ns() + (int64_t)(s.call_us * 1000);
    while (s.call_us && now_ns() < until) {}
    if (s.lost_after_s && now_s() > s.lost_after_s) return GPU_IS_LOST;
    return error_of(call);
}
#define BEGIN(call) do { int code_ = begin(__func__, call); if (code_) return code_; } while (0)

static double power_mw(double t) { return t >= s.load_from_s && t < s.load_to_s ? s.load_mw : s.idle_mw; }

/* Millijoules from t = 0 on: idle all the time, the rest while there is load. */
static double energy_mj(double t) {
    double loaded = fmin(t, s.load_to_s) - s.load_from_s;
    return s.idle_mw * t + (s.load_mw - s.idle_mw) * fmax(loaded, 0);
}

static double updated_s(void) {
    double period = s.power_update_ms * 1e-3;
    return period ? floor(now_s() / period) * period : now_s();
}

static double tick_s(long n) {
    return (s.counter_phase_ms + n * s.counter_tick_ms + s.counter_jitter_ms * sin((double)n)) * 1e-3;
}

static uint64_t counter_mj(void) {
    double t = now_s();
    if (s.counter_frozen) return (uint64_t)s.counter_start_mj;
    if (s.counter_stops_at_s) t = fmin(t, s.counter_stops_at_s);
    if (s.counter_drops_at_s && t > s.counter_drops_at_s) return 1;
    long n = (long)floor((t * 1e3 - s.counter_phase_ms) / s.counter_tick_ms) + 1;
    while (tick_s(n) > t) n--;
    return (uint64_t)(s.counter_start_mj + energy_mj(tick_s(n)));
}

static unsigned instant_mw(void) { return s.zero_power ? 0 : (unsigned)power_mw(updated_s()); }

static unsigned average_mw(void) {
    double t = updated_s();
    return s.zero_power ? 0 : (unsigned)(energy_mj(t) - energy_mj(t - 1.0) + s.average_bias_mw);
}

/* The library and its devices */
nvmlReturn_t nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    read_scenario();
    log_call(__func__);
    return error_of("init");
}
nvmlReturn_t nvmlShutdown(void) { log_call(__func__); return SUCCESS; }
const char *nvmlErrorString(nvmlReturn_t code) {
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (codes[i].code == code) return codes[i].name;
    return "Unknown Error";
}

static struct { int index; } devices[8] = {{0}, {1}, {2}, {3}, {4}, {5}, {6}, {7}};

static int index_of(nvmlDevice_t device) { return device->index; }
static void uuid_of(int index, char *out, unsigned size) {
    snprintf(out, size, "%.*s%d", (int)strlen(s.uuid) - 1, s.uuid, index); /* the last digit counts the GPUs */
}
static void bus_id_of(int index, char *out, unsigned size) { snprintf(out, size, "00000000:%02X:00.0", 0x1A + index); }

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count) { BEGIN("count"); *count = (unsigned)s.gpus; return SUCCESS; }
nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *device) {
    BEGIN("handle");
    if (index >= (unsigned)s.gpus) return INVALID_ARGUMENT;
    *device = (nvmlDevice_t)&devices[index];
    return SUCCESS;
}
nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) {
    BEGIN("handle");
    char own[96];
    for (int i = 0; i < (int)s.gpus; i++) {
        uuid_of(i, own, sizeof own);
        if (!strcmp(uuid, own) || (s.mig && !strncmp(uuid, "MIG-", 4) && !strcmp(uuid + 4, own + 4))) {
            *device = (nvmlDevice_t)&devices[i];
            return SUCCESS;
        }
    }
    return NOT_FOUND;
}
nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, nvmlDevice_t *device) {
    BEGIN("handle");
    char own[32];
    for (int i = 0; i < (int)s.gpus; i++) {
        bus_id_of(i, own, sizeof own);
        if (!strcasecmp(bus_id, own) || !strcasecmp(bus_id, own + 4)) {
            *device = (nvmlDevice_t)&devices[i];
            return SUCCESS;
        }
    }
    return NOT_FOUND;
}
nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t slice, nvmlDevice_t *device) {
    BEGIN("mig_parent");
    *device = slice;
    return SUCCESS;
}

/* Identity and state */
#define TEXT(function, call, value) \
    nvmlReturn_t function(nvmlDevice_t device, char *out, unsigned size) { \
        (void)device; BEGIN(call); snprintf(out, size, "%s", value); return SUCCESS; }
#define UNSIGNED(function, call, value) \
    nvmlReturn_t function(nvmlDevice_t device, unsigned *out) { \
        (void)device; BEGIN(call); *out = (unsigned)(value); return SUCCESS; }
TEXT(nvmlDeviceGetName, "name", s.name)
TEXT(nvmlDeviceGetVbiosVersion, "vbios", s.vbios)
nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *out, unsigned size) {
    BEGIN("uuid");
    uuid_of(index_of(device), out, size);
    return SUCCESS;
}
nvmlReturn_t nvmlSystemGetDriverVersion(char *out, unsigned size) {
    BEGIN("driver");
    snprintf(out, size, "%s", s.driver);
    return SUCCESS;
}
nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *out) {
    BEGIN("cuda_driver");
    *out = (int)s.cuda_version;
    return SUCCESS;
}
typedef struct {
    char busIdLegacy[16];
    unsigned domain, bus, device, pciDeviceId, pciSubSystemId;
    char busId[32];
} pci_info;
nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, pci_info *out) {
    BEGIN("pci");
    memset(out, 0, sizeof *out);
    bus_id_of(index_of(device), out->busId, sizeof out->busId);
    return SUCCESS;
}
nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor) {
    (void)device;
    BEGIN("capability");
    *major = (int)s.capability_major;
    *minor = (int)s.capability_minor;
    return SUCCESS;
}
typedef struct { unsigned long long total, free, used; } memory_info;
nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, memory_info *out) {
    (void)device;
    BEGIN("memory");
    *out = (memory_info){(unsigned long long)s.memory_bytes, 0, 0};
    return SUCCESS;
}
nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned *current, unsigned *pending) {
    (void)device;
    BEGIN("mig");
    *current = *pending = (unsigned)s.mig;
    return SUCCESS;
}
UNSIGNED(nvmlDeviceGetVirtualizationMode, "virtualisation", s.virtualisation)
typedef struct { unsigned pid; unsigned long long usedGpuMemory; unsigned gpuInstanceId, computeInstanceId; } process_info;
static nvmlReturn_t processes(unsigned *count, process_info *out) {
    unsigned room = *count;
    *count = (unsigned)s.processes;
    if (room < *count) return INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < *count; i++) out[i] = (process_info){(unsigned)s.first_pid + i, 1 << 20, 0, 0};
    return SUCCESS;
}
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned *count, process_info *out) {
    (void)device;
    BEGIN("processes");
    return processes(count, out);
}
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v2(nvmlDevice_t device, unsigned *count, process_info *out) {
    (void)device;
    BEGIN("processes");
    return processes(count, out);
}

/* Power, energy, clocks, temperature, throttling */
nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t device, unsigned long long *out) {
    (void)device;
    BEGIN("counter");
    *out = counter_mj();
    return SUCCESS;
}
UNSIGNED(nvmlDeviceGetPowerUsage, "power_usage", s.capability_major * 10 + s.capability_minor <= 80 ? instant_mw() : average_mw())
UNSIGNED(nvmlDeviceGetEnforcedPowerLimit, "limit", s.limit_mw)
UNSIGNED(nvmlDeviceGetPowerManagementLimit, "limit", s.limit_mw)
UNSIGNED(nvmlDeviceGetPowerManagementDefaultLimit, "default_limit", s.default_limit_mw)
nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, unsigned domain, unsigned *out) {
    (void)device;
    BEGIN(domain == 2 ? "memory_clock" : "clock");
    *out = (unsigned)(domain == 2 ? s.memory_clock_mhz : s.clock_mhz);
    return SUCCESS;
}
UNSIGNED(nvmlDeviceGetPerformanceState, "performance_state", 0)
nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t device, unsigned domain, unsigned *out) {
    (void)device;
    BEGIN("max_clock");
    *out = (unsigned)(domain == 2 ? s.memory_clock_mhz : s.max_clock_mhz);
    return SUCCESS;
}
typedef struct { unsigned version, sensor; int temperature; } temperature_v1;
nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, temperature_v1 *out) {
    (void)device;
    BEGIN("temperature_v");
    out->temperature = (int)s.temp_c;
    return SUCCESS;
}
nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, unsigned sensor, unsigned *out) {
    (void)device, (void)sensor;
    BEGIN("temperature");
    *out = (unsigned)s.temp_c;
    return SUCCESS;
}
static nvmlReturn_t reasons(unsigned long long *out) { *out = (unsigned long long)s.reasons; return SUCCESS; }
nvmlReturn_t nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t device, unsigned long long *out) {
    (void)device;
    BEGIN("reasons");
    return reasons(out);
}
nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t device, unsigned long long *out) {
    (void)device;
    BEGIN("throttle_reasons");
    return reasons(out);
}
static uint64_t thermal_violation_ns(void) {
    return (uint64_t)(s.thermal_violation_ns + s.thermal_violation_per_s * now_s());
}
typedef struct { unsigned long long referenceTime, violationTime; } violation_time;
nvmlReturn_t nvmlDeviceGetViolationStatus(nvmlDevice_t device, unsigned policy, violation_time *out) {
    (void)device;
    BEGIN("violation");
    out->violationTime = policy == 0 ? (unsigned long long)s.power_violation_ns : thermal_violation_ns();
    return SUCCESS;
}

typedef struct {
    uint32_t fieldId, scopeId;
    int64_t timestamp, latencyUsec;
    uint32_t valueType, nvmlReturn;
    union { unsigned uiVal; unsigned long long ullVal; } value;
} field_value;

static void answer(field_value *field) {
    char call[32];
    snprintf(call, sizeof call, "field_%u", field->fieldId);
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME, &wall);
    field->timestamp = wall.tv_sec * 1000000LL + wall.tv_nsec / 1000;
    field->valueType = UINT;
    field->nvmlReturn = error_of(call);
    if (field->nvmlReturn) return;
    switch (field->fieldId) {
    case 185: field->value.uiVal = average_mw(); return;
    case 186: field->value.uiVal = instant_mw(); return;
    case 74: field->valueType = ULL; field->value.ullVal = (unsigned long long)s.power_violation_ns; return;
    case 75: field->valueType = ULL; field->value.ullVal = thermal_violation_ns(); return;
    case 83: field->valueType = ULL; field->value.ullVal = counter_mj(); return;
    default: field->nvmlReturn = INVALID_ARGUMENT;
    }
}
nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count, field_value *fields) {
    (void)device;
    BEGIN("fields");
    for (int i = 0; i < count; i++) answer(&fields[i]);
    return SUCCESS;
}

/* Everything that changes a GPU: refused, and in the log. The list is made from the bindings when this is built. */
#define SETTER(name) nvmlReturn_t name(void) { log_call(#name); return NO_PERMISSION; }
#include "setters.h"
