/* The loops that must look at every record of a capture, every line of a SIP message and every byte of a text.
 *
 * Each has a twin in Python that gives the same, and the tests hold both against each other on the same bytes: numpy in
 * labkit/capture/decode, plain Python in labkit/wire. Nothing is known here that is not known there; this file is only
 * quicker. It reads and writes nothing but the buffers it is given, and checks that what it is told lies inside them.
 *
 * Stable ABI of Python 3.11: one build serves every later version.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LOOPS_VERSION 2 /* raise it with each change of this file, here and in labkit/native/__init__.py */

typedef const unsigned char *Bytes;

static const Py_ssize_t RECORD_HEAD = 16; /* seconds, fraction, captured, on wire: 32 bits each */

static uint32_t word_at(Bytes at, int big_endian) {
    return big_endian ? (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3]
                      : (uint32_t)at[3] << 24 | (uint32_t)at[2] << 16 | (uint32_t)at[1] << 8 | at[0];
}

/* ------------------------------------------------------------ offsets of records, as many as there are */

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

/* Whether each piece lies in a buffer; sets an exception where not. */
static int lie_inside(Py_ssize_t length, const int64_t *starts, const int64_t *sizes, Py_ssize_t count) {
    Py_ssize_t index;
    for (index = 0; index < count; index++)
        if (starts[index] < 0 || sizes[index] < 0 || starts[index] > length || sizes[index] > length - starts[index]) {
            PyErr_SetString(PyExc_ValueError, "a piece does not lie inside raw");
            return 0;
        }
    return 1;
}

/* ------------------------------------------------------------ pcap and pcapng */

static PyObject *pcap_records(PyObject *module, PyObject *args) {
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

static PyObject *packet_blocks(PyObject *module, PyObject *args) {
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

/* ------------------------------------------------------------ frames of the kernel's ring */

/* What the kernel writes before each frame of a TPACKET_V3 block: include/uapi/linux/if_packet.h. */
enum { NEXT = 0, SECONDS = 4, NANOSECONDS = 8, CAPTURED = 12, ON_WIRE = 16, STATUS = 20, BEGIN = 24, RING_HEAD = 26 };
static const uint32_t VLAN_VALID = 0x10;

static uint32_t native_word(Bytes at) {
    uint32_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

static PyObject *ring_frames(PyObject *module, PyObject *args) {
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

/* ------------------------------------------------------------ media as they nearly always travel */

typedef struct { /* `decode.plain` knows it, too */
    uint64_t src, dst;
    int64_t size;
    uint32_t timestamp, ssrc;
    uint16_t src_port, dst_port, sequence;
    uint8_t first, second;
} Media;

static uint16_t half_at(Bytes at) { return (uint16_t)(at[0] << 8 | at[1]); }

static int is_tunnel(const Media *media) { /* VXLAN, GTP-U */
    return media->dst_port == 4789 || media->dst_port == 2152 || media->src_port == 2152;
}

/* Read an Ethernet frame that holds IPv4 without options, that UDP, and that what may be RTP; 0 for all others. */
static int read_media(Bytes frame, int64_t captured, Media *media) {
    enum { IP = 14, UDP = IP + 20, RTP = UDP + 8, LEAST = RTP + 12 };
    uint16_t total, size;
    if (captured < LEAST || half_at(frame + 12) != 0x0800 || frame[IP] != 0x45 || half_at(frame + IP + 6) & 0x3FFF ||
        frame[IP + 9] != 17 || (frame[RTP] & 0xC0) != 0x80 || (frame[RTP + 1] & 0xE0) == 0xC0)
        return 0;
    total = half_at(frame + IP + 2), size = half_at(frame + UDP + 4);
    if (total + IP > captured || size + 20 > total || size < 8 + 12)
        return 0;
    media->src = word_at(frame + IP + 12, 1), media->dst = word_at(frame + IP + 16, 1);
    media->size = size - 8;
    media->timestamp = word_at(frame + RTP + 4, 1), media->ssrc = word_at(frame + RTP + 8, 1);
    media->src_port = half_at(frame + UDP), media->dst_port = half_at(frame + UDP + 2);
    media->sequence = half_at(frame + RTP + 2), media->first = frame[RTP], media->second = frame[RTP + 1];
    return !is_tunnel(media);
}

static int same_stream(const Media *one, const Media *other) {
    return one->src == other->src && one->dst == other->dst && one->src_port == other->src_port &&
           one->dst_port == other->dst_port && one->ssrc == other->ssrc && one->size == other->size &&
           (one->second & 0x7F) == (other->second & 0x7F);
}

static PyObject *plain_media(PyObject *module, PyObject *args) {
    Py_buffer raw, starts, captured, which, media;
    PyObject *result = NULL;
    Py_ssize_t count, index, found = 0;
    int one_stream = 1;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*y*w*w*:plain_media", &raw, &starts, &captured, &which, &media))
        return NULL;
    count = which.len / 8;
    if (starts.len != count * 8 || captured.len != count * 8 || media.len != count * (Py_ssize_t)sizeof(Media)) {
        PyErr_SetString(PyExc_ValueError, "the arrays do not fit each other");
    } else if (lie_inside(raw.len, starts.buf, captured.buf, count)) {
        Media *row = media.buf;
        for (index = 0; index < count; index++) {
            Bytes frame = (Bytes)raw.buf + ((const int64_t *)starts.buf)[index];
            if (!read_media(frame, ((const int64_t *)captured.buf)[index], &row[found]))
                continue;
            one_stream &= same_stream(&row[0], &row[found]);
            ((int64_t *)which.buf)[found++] = index;
        }
        result = Py_BuildValue("nO", found, one_stream ? Py_True : Py_False);
    }
    PyBuffer_Release(&raw);
    PyBuffer_Release(&starts);
    PyBuffer_Release(&captured);
    PyBuffer_Release(&which);
    PyBuffer_Release(&media);
    return result;
}

/* ------------------------------------------------------------ heads of SIP messages */

enum { FROM, TO, VIA, CALL_ID, CSEQ, HEADERS, OTHER = HEADERS, ODD };

static const struct {
    const char *name; /* in lower case */
    int header;
} NAMES[] = {{"from", FROM}, {"to", TO}, {"via", VIA}, {"call-id", CALL_ID}, {"cseq", CSEQ},
             {"f", FROM},    {"t", TO},  {"v", VIA},   {"i", CALL_ID}};

/* What is told of each message: columns of one array of 64-bit numbers, offsets in the buffer. */
enum { LINE_END, BODY, VALUES, SIZES = VALUES + HEADERS, BRANCH = SIZES + HEADERS, BRANCH_SIZE, COLUMNS };

static unsigned char lower(unsigned char byte) { return byte >= 'A' && byte <= 'Z' ? byte + 32 : byte; }

static int is_blank(unsigned char byte) { return byte == ' ' || byte == '\t'; }

static Bytes line_end_of(Bytes line, Bytes end) {
    Bytes newline = memchr(line, '\n', (size_t)(end - line));
    return newline == NULL ? end : newline;
}

/* Which header a line is, and where its value begins; ODD where only a closer look can tell. */
static int header_of(Bytes line, Bytes stop, Bytes *value) {
    size_t index;
    if (is_blank(line[0]))
        return ODD; /* folded: what it continues may be a header that is wanted */
    for (index = 0; index < sizeof NAMES / sizeof *NAMES; index++) {
        const char *name = NAMES[index].name;
        Bytes at = line;
        while (*name && at < stop && lower(*at) == (unsigned char)*name)
            name++, at++;
        if (*name || at == stop)
            continue;
        if (*at == ':') {
            *value = at + 1;
            return NAMES[index].header;
        }
        if (is_blank(*at))
            return ODD;
    }
    return OTHER;
}

/* Where a parameter ends, or what might hide an end begins. */
static Bytes parameter_end(Bytes at, Bytes stop) {
    while (at < stop && *at != ';' && *at != ',' && *at != '"')
        at++;
    return at;
}

/* The branch of a Via that is written plainly; the size stays 0 where a closer look is needed. */
static void find_branch(Bytes raw, Bytes at, Bytes stop, int64_t *branch, int64_t *size) {
    static const char PARAMETER[] = ";branch=";
    const Py_ssize_t length = sizeof PARAMETER - 1;
    Bytes begin;
    for (;; at++) {
        at = parameter_end(at, stop);
        if (at == stop || *at != ';')
            return;
        if (stop - at > length && memcmp(at, PARAMETER, (size_t)length) == 0)
            break;
        if (stop - at > 1 && (lower(at[1]) == 'b' || is_blank(at[1])))
            return; /* a branch in another spelling */
    }
    begin = at + length;
    for (at = begin; at < stop && *at != ';' && *at != ','; at++)
        if (*at <= ' ' || *at == '"' || *at >= 0x7F)
            return;
    *branch = begin - raw;
    *size = at - begin;
}

/* Read the head of one message; `row` points at its first column, the next one is `step` further. */
static void sip_head(Bytes raw, Bytes start, Bytes end, int64_t *row, Py_ssize_t step, unsigned char *odd) {
    Bytes line = line_end_of(start, end), stop, value = NULL;
    int header, found = 0;
    line += line < end;
    row[LINE_END * step] = line - raw;
    row[BODY * step] = end - raw;
    for (header = VALUES; header < COLUMNS; header++)
        row[header * step] = header < SIZES || header == BRANCH ? start - raw : 0;
    *odd = 0;
    for (; line < end; line = stop + (stop < end)) {
        stop = line_end_of(line, end);
        if (stop < end && (stop == line || (stop == line + 1 && *line == '\r'))) {
            row[BODY * step] = stop + 1 - raw;
            break;
        }
        header = header_of(line, stop, &value);
        if (header == ODD)
            *odd = 1;
        if (header >= HEADERS || found & 1 << header)
            continue;
        found |= 1 << header;
        row[(VALUES + header) * step] = value - raw;
        row[(SIZES + header) * step] = stop - value;
    }
    for (header = 0; header < HEADERS; header++) {
        int64_t *begin = &row[(VALUES + header) * step], *size = &row[(SIZES + header) * step];
        if (*size && raw[*begin + *size - 1] == '\r')
            --*size;
        if (*size && raw[*begin] == ' ')
            ++*begin, --*size;
    }
    if (found != (1 << HEADERS) - 1)
        *odd = 1;
    else
        find_branch(raw, raw + row[(VALUES + VIA) * step], raw + row[(VALUES + VIA) * step] + row[(SIZES + VIA) * step],
                    &row[BRANCH * step], &row[BRANCH_SIZE * step]);
}

static PyObject *sip_heads(PyObject *module, PyObject *args) {
    Py_buffer raw, starts, ends, columns, odd;
    PyObject *result = NULL;
    Py_ssize_t count, index;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*y*w*w*:sip_heads", &raw, &starts, &ends, &columns, &odd))
        return NULL;
    count = odd.len;
    if (starts.len != count * 8 || ends.len != count * 8 || columns.len != count * 8 * COLUMNS) {
        PyErr_SetString(PyExc_ValueError, "the arrays do not fit each other");
        goto done;
    }
    for (index = 0; index < count; index++) {
        int64_t start = ((const int64_t *)starts.buf)[index], end = ((const int64_t *)ends.buf)[index];
        if (start < 0 || start > end || end > raw.len) {
            PyErr_SetString(PyExc_ValueError, "a message does not lie inside raw");
            goto done;
        }
        sip_head((Bytes)raw.buf, (Bytes)raw.buf + start, (Bytes)raw.buf + end, (int64_t *)columns.buf + index, count,
                 (unsigned char *)odd.buf + index);
    }
    result = Py_NewRef(Py_None);
done:
    PyBuffer_Release(&raw);
    PyBuffer_Release(&starts);
    PyBuffer_Release(&ends);
    PyBuffer_Release(&columns);
    PyBuffer_Release(&odd);
    return result;
}

/* ------------------------------------------------------------ header lines of one SIP message */

static int is_token(unsigned char byte) { /* RFC 3261 section 25.1 */
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9') ||
           (byte && strchr("-.!%*_+`'~", byte) != NULL);
}

static PyObject *text_of(Bytes begin, Bytes end) {
    return PyUnicode_DecodeUTF8((const char *)begin, end - begin, "surrogateescape");
}

static int is_content_length(Bytes name, Bytes colon) {
    static const char NAME[] = "content-length";
    Py_ssize_t size = colon - name, index;
    if (size == 1)
        return lower(*name) == 'l';
    if (size != sizeof NAME - 1)
        return 0;
    for (index = 0; index < size && lower(name[index]) == (unsigned char)NAME[index]; index++)
        ;
    return index == size;
}

/* The number that a Content-Length says; -1 where it is not just some digits. */
static long long length_of(Bytes at, Bytes end) {
    long long length = 0;
    if (at == end || end - at > 11)
        return -1;
    for (; at < end; at++) {
        if (*at < '0' || *at > '9')
            return -1;
        length = 10 * length + (*at - '0');
    }
    return length;
}

/* Read a header line (without its newline) that is written as usual and add it. Gives 1; 0 where it is written in
 * another way, or is the second Content-Length; -1 with an exception set. */
static int add_header(Bytes line, Bytes end, PyObject *headers, long long *length) {
    Bytes colon = line, line_end, value;
    PyObject *name_text, *value_text, *header;
    int done;
    line_end = end -= end > line && end[-1] == '\r';
    while (colon < end && is_token(*colon))
        colon++;
    if (colon == line || colon == end || *colon != ':')
        return 0;
    value = colon + 1;
    while (value < end && (is_blank(*value) || *value == '\r'))
        value++;
    while (value < end && (is_blank(end[-1]) || end[-1] == '\r'))
        end--;
    if (is_content_length(line, colon)) {
        if (*length >= 0 || memchr(colon, '\r', (size_t)(line_end - colon)) != NULL ||
            (*length = length_of(value, end)) < 0)
            return 0;
    }
    name_text = text_of(line, colon);
    value_text = text_of(value, end);
    header = name_text != NULL && value_text != NULL ? PyTuple_Pack(2, name_text, value_text) : NULL;
    done = header != NULL && PyList_Append(headers, header) == 0 ? 1 : -1;
    Py_XDECREF(name_text);
    Py_XDECREF(value_text);
    Py_XDECREF(header);
    return done;
}

static PyObject *sip_head_lines(PyObject *module, PyObject *raw) {
    char *content;
    Py_ssize_t size;
    Bytes begin, end, start_line_end, line, stop;
    PyObject *headers, *result = NULL;
    long long length = -1;
    int done = 1;
    (void)module;
    if (PyBytes_AsStringAndSize(raw, &content, &size) < 0 || (headers = PyList_New(0)) == NULL)
        return NULL;
    begin = (Bytes)content;
    end = begin + size;
    start_line_end = stop = line_end_of(begin, end);
    start_line_end -= stop > begin && stop[-1] == '\r';
    while (done == 1 && stop < end) {
        line = stop + 1;
        stop = line_end_of(line, end);
        if (stop < end && (stop == line || (stop == line + 1 && *line == '\r')))
            break;
        done = stop < end ? add_header(line, stop, headers, &length) : 0;
    }
    if (done == 1 && stop < end) {
        PyObject *all = PyList_AsTuple(headers), *first = text_of(begin, start_line_end);
        if (all != NULL && first != NULL)
            result = Py_BuildValue("OOLn", first, all, length, (Py_ssize_t)(stop + 1 - begin));
        Py_XDECREF(all);
        Py_XDECREF(first);
    } else if (done >= 0) {
        result = Py_NewRef(Py_None);
    }
    Py_DECREF(headers);
    return result;
}

/* ------------------------------------------------------------ distinct texts */

/* Folded 128-bit products of the text and of numbers that nobody outside of this process knows: whoever makes a capture
 * cannot make texts that all meet in one place of the table. */
static uint64_t secret[3];

static uint64_t folded(uint64_t one, uint64_t other) {
    unsigned __int128 product = (unsigned __int128)one * other;
    return (uint64_t)(product >> 64) ^ (uint64_t)product;
}

static uint64_t hash_of(Bytes at, size_t size) {
    uint64_t hash = secret[2] ^ size, words[2];
    for (; size > 16; at += 16, size -= 16) {
        memcpy(words, at, 16);
        hash = folded(words[0] ^ secret[0], words[1] ^ hash);
    }
    words[0] = words[1] = 0;
    memcpy(words, at, size);
    return folded(folded(words[0] ^ secret[0], words[1] ^ hash), secret[1]);
}

typedef struct {
    uint32_t hash;
    int32_t number; /* of the value, from 1 on; 0 where the place is free */
} Place;

/* Give each text the number of its value; fill in which text is the first of each value. Returns how many values. */
static int32_t number_texts(Bytes raw, const int64_t *starts, const int64_t *sizes, Py_ssize_t count, Place *places,
                            size_t mask, int32_t *numbers, int32_t *firsts) {
    int32_t values = 0, index;
    for (index = 0; index < count; index++) {
        Bytes text = raw + starts[index];
        size_t size = (size_t)sizes[index];
        uint64_t hash = hash_of(text, size);
        Place *place = &places[hash & mask];
        while (place->number) {
            int32_t first = firsts[place->number - 1];
            if (place->hash == (uint32_t)(hash >> 32) && sizes[first] == sizes[index] &&
                memcmp(raw + starts[first], text, size) == 0)
                break;
            if (++place > places + mask)
                place = places;
        }
        if (place->number == 0) {
            firsts[values++] = index;
            place->hash = (uint32_t)(hash >> 32);
            place->number = values;
        }
        numbers[index] = place->number - 1;
    }
    return values;
}

static PyObject *texts_at(Bytes raw, const int64_t *starts, const int64_t *sizes, const int32_t *which, int32_t count) {
    PyObject *texts = PyList_New(count);
    int32_t index;
    for (index = 0; texts != NULL && index < count; index++) {
        PyObject *text = PyBytes_FromStringAndSize((const char *)raw + starts[which[index]], sizes[which[index]]);
        if (text == NULL || PyList_SetItem(texts, index, text) < 0)
            Py_CLEAR(texts);
    }
    return texts;
}

static PyObject *distinct(PyObject *module, PyObject *args) {
    Py_buffer raw, starts, sizes, numbers;
    PyObject *texts = NULL;
    Place *places = NULL;
    int32_t *firsts = NULL;
    size_t room = 16;
    Py_ssize_t count;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*y*w*:distinct", &raw, &starts, &sizes, &numbers))
        return NULL;
    count = numbers.len / (Py_ssize_t)sizeof(int32_t);
    if (starts.len != count * 8 || sizes.len != count * 8 || count > INT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "the arrays do not fit each other");
    } else if (lie_inside(raw.len, starts.buf, sizes.buf, count)) {
        while (room < (size_t)count * 2)
            room *= 2;
        places = calloc(room, sizeof *places);
        firsts = malloc(((size_t)count + 1) * sizeof *firsts);
        if (places == NULL || firsts == NULL)
            PyErr_NoMemory();
        else
            texts = texts_at(raw.buf, starts.buf, sizes.buf, firsts,
                             number_texts(raw.buf, starts.buf, sizes.buf, count, places, room - 1, numbers.buf, firsts));
    }
    free(places);
    free(firsts);
    PyBuffer_Release(&raw);
    PyBuffer_Release(&starts);
    PyBuffer_Release(&sizes);
    PyBuffer_Release(&numbers);
    return texts;
}

/* Python has made a number of its own at its start that nobody knows: the hashes of texts depend on it. */
static int choose_secret(void) {
    static const char *const SEEDS[] = {"labkit", "native", "loops"};
    int index;
    for (index = 0; index < 3; index++) {
        PyObject *text = PyUnicode_FromString(SEEDS[index]);
        if (text == NULL)
            return 0;
        secret[index] = (uint64_t)PyObject_Hash(text) | 1;
        Py_DECREF(text);
    }
    return 1;
}

/* ------------------------------------------------------------ module */

static PyMethodDef METHODS[] = {
    {"pcap_records", pcap_records, METH_VARARGS, "See _loops.pyi."},
    {"packet_blocks", packet_blocks, METH_VARARGS, "See _loops.pyi."},
    {"ring_frames", ring_frames, METH_VARARGS, "See _loops.pyi."},
    {"plain_media", plain_media, METH_VARARGS, "See _loops.pyi."},
    {"sip_heads", sip_heads, METH_VARARGS, "See _loops.pyi."},
    {"sip_head_lines", sip_head_lines, METH_O, "See _loops.pyi."},
    {"distinct", distinct, METH_VARARGS, "See _loops.pyi."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_loops", "Inner loops, see _loops.pyi.", 0, METHODS,
                                    NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__loops(void) {
    PyObject *module = PyModule_Create(&MODULE);
    if (module != NULL && (!choose_secret() || PyModule_AddIntConstant(module, "VERSION", LOOPS_VERSION) < 0)) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
