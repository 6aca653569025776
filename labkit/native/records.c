/* Where records of captures, and frames of the kernel's ring, lie. */
#include "loops.h"

static const Py_ssize_t RECORD_HEAD = 16; /* seconds, fraction, captured, on wire: 32 bits each */

typedef struct {
    int64_t *items;
    Py_ssize_t count, room;
} Offsets;

static int add_offset(Offsets *offsets, int64_t offset) {
    if (offsets->count == offsets->room) {
        Py_ssize_t room = offsets->room ? 2 * offsets->room : 1024;
        int64_t *items = realloc(offsets->items, (size_t)room * sizeof *items);
        if (items == NULL) {
            PyErr_NoMemory();
            return 0;
        }
        offsets->items = items;
        offsets->room = room;
    }
    offsets->items[offsets->count++] = offset;
    return 1;
}

static PyObject *offsets_as_bytes(Offsets *offsets) {
    PyObject *found = PyBytes_FromStringAndSize((const char *)offsets->items,
                                                offsets->count * (Py_ssize_t)sizeof *offsets->items);
    free(offsets->items);
    return found;
}

PyObject *pcap_records(PyObject *module, PyObject *args) {
    Py_buffer raw;
    Py_ssize_t position, size;
    int big_endian;
    uint32_t captured = 0;
    Offsets offsets = {NULL, 0, 0};
    int good = 1;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*nnp:pcap_records", &raw, &position, &size, &big_endian))
        return NULL;
    if (position < 0 || size > raw.len) {
        PyErr_SetString(PyExc_ValueError, "position and size must lie inside raw");
        good = 0;
    }
    while (good && position <= size - RECORD_HEAD) {
        good = add_offset(&offsets, position);
        captured = word_at((Bytes)raw.buf + position + 8, big_endian);
        position += RECORD_HEAD + (Py_ssize_t)captured;
    }
    PyBuffer_Release(&raw);
    if (!good) {
        free(offsets.items);
        return NULL;
    }
    return Py_BuildValue("NnI", offsets_as_bytes(&offsets), position, (unsigned int)captured);
}

/* Enhanced Packet Block: type, length, interface, time (64 bits), captured, on wire; packet and options; length. */
static const uint32_t ENHANCED_PACKET = 6, LEAST_BLOCK = 32, BIGGEST_BLOCK = 64u << 20;

PyObject *packet_blocks(PyObject *module, PyObject *args) {
    Py_buffer raw;
    Py_ssize_t position, size;
    int big_endian, good = 1;
    unsigned int interfaces;
    Offsets offsets = {NULL, 0, 0};
    (void)module;
    if (!PyArg_ParseTuple(args, "y*nnpI:packet_blocks", &raw, &position, &size, &big_endian, &interfaces))
        return NULL;
    if (position < 0 || size > raw.len) {
        PyErr_SetString(PyExc_ValueError, "position and size must lie inside raw");
        good = 0;
    }
    while (good && position <= size - (Py_ssize_t)LEAST_BLOCK) {
        Bytes block = (Bytes)raw.buf + position;
        uint32_t length = word_at(block + 4, big_endian), captured = word_at(block + 20, big_endian);
        if (word_at(block, big_endian) != ENHANCED_PACKET || length < LEAST_BLOCK || length > BIGGEST_BLOCK ||
            length % 4 || captured > length - LEAST_BLOCK || word_at(block + 8, big_endian) >= interfaces ||
            (Py_ssize_t)length > size - position)
            break;
        good = add_offset(&offsets, position);
        position += (Py_ssize_t)length;
    }
    PyBuffer_Release(&raw);
    if (!good) {
        free(offsets.items);
        return NULL;
    }
    return Py_BuildValue("Nn", offsets_as_bytes(&offsets), position);
}

/* What the kernel writes before each frame of a TPACKET_V3 block: include/uapi/linux/if_packet.h. */
enum { NEXT = 0, SECONDS = 4, NANOSECONDS = 8, CAPTURED = 12, ON_WIRE = 16, STATUS = 20, BEGIN = 24, RING_HEAD = 26 };
static const uint32_t VLAN_VALID = 0x10;

static uint32_t native_word(Bytes at) {
    uint32_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

PyObject *ring_frames(PyObject *module, PyObject *args) {
    Py_buffer raw, columns;
    Py_ssize_t at, count, index;
    int64_t *times, *starts, *captured, *on_wire;
    PyObject *result = Py_True;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*nnw*:ring_frames", &raw, &at, &count, &columns))
        return NULL;
    times = columns.buf, starts = times + count, captured = starts + count, on_wire = captured + count;
    if (count < 0 || columns.len != count * 8 * 4) {
        PyErr_SetString(PyExc_ValueError, "the arrays do not fit each other");
        result = NULL;
    }
    for (index = 0; result == Py_True && index < count; index++) {
        Bytes head = (Bytes)raw.buf + at;
        uint16_t begin;
        if (at < 0 || at > raw.len - RING_HEAD) {
            PyErr_SetString(PyExc_ValueError, "a frame does not lie inside raw");
            result = NULL;
            break;
        }
        memcpy(&begin, head + BEGIN, sizeof begin);
        times[index] = (int64_t)native_word(head + SECONDS) * 1000000000 + native_word(head + NANOSECONDS);
        starts[index] = at + begin;
        captured[index] = native_word(head + CAPTURED);
        on_wire[index] = native_word(head + ON_WIRE);
        if (starts[index] + captured[index] > raw.len) {
            PyErr_SetString(PyExc_ValueError, "a frame does not lie inside raw");
            result = NULL;
        } else if (native_word(head + STATUS) & VLAN_VALID) {
            result = Py_False;
        }
        at += native_word(head + NEXT);
    }
    PyBuffer_Release(&raw);
    PyBuffer_Release(&columns);
    return Py_XNewRef(result);
}
