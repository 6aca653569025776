/* Where the headers that are wanted lie in many SIP messages. */
#include "loops.h"

enum { FROM, TO, VIA, CALL_ID, CSEQ, HEADERS, OTHER = HEADERS, ODD };

static const struct {
    const char *name; /* in lower case */
    int header;
} NAMES[] = {{"from", FROM}, {"to", TO}, {"via", VIA}, {"call-id", CALL_ID}, {"cseq", CSEQ},
             {"f", FROM},    {"t", TO},  {"v", VIA},   {"i", CALL_ID}};

/* What is told of each message: columns of one array of 64-bit numbers, offsets in the buffer. */
enum { LINE_END, BODY, VALUES, SIZES = VALUES + HEADERS, BRANCH = SIZES + HEADERS, BRANCH_SIZE, COLUMNS };

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

PyObject *sip_heads(PyObject *module, PyObject *args) {
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
