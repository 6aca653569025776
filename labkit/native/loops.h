/* The loops that must look at every record of a capture, every line of a SIP message and every byte of a text.
 *
 * Each has a twin in Python that gives the same, and the tests hold both against each other on the same bytes: numpy in
 * labkit/capture/decode, plain Python in labkit/wire. Nothing is known here that is not known there; these files are only
 * quicker. They read and write nothing but the buffers they are given, and check that what they are told lies inside
 * them. What each function takes and gives stands in _loops.pyi.
 *
 * Stable ABI of Python 3.11: one build serves every later version.
 */
#ifndef LABKIT_LOOPS_H
#define LABKIT_LOOPS_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LOOPS_VERSION 2 /* raise it with each change of these files, here and in labkit/native/__init__.py */

typedef const unsigned char *Bytes;

/* Whether each piece lies in a buffer; sets an exception where not. */
int lie_inside(Py_ssize_t length, const int64_t *starts, const int64_t *sizes, Py_ssize_t count);

/* Choose what the hashes of texts depend on; 0 with an exception set. */
int choose_secret(void);

PyObject *pcap_records(PyObject *module, PyObject *args);
PyObject *packet_blocks(PyObject *module, PyObject *args);
PyObject *ring_frames(PyObject *module, PyObject *args);
PyObject *plain_media(PyObject *module, PyObject *args);
PyObject *sip_heads(PyObject *module, PyObject *args);
PyObject *sip_head_lines(PyObject *module, PyObject *raw);
PyObject *distinct(PyObject *module, PyObject *args);

static inline uint32_t word_at(Bytes at, int big_endian) {
    return big_endian ? (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3]
                      : (uint32_t)at[3] << 24 | (uint32_t)at[2] << 16 | (uint32_t)at[1] << 8 | at[0];
}

static inline uint16_t half_at(Bytes at) { return (uint16_t)(at[0] << 8 | at[1]); }

static inline unsigned char lower(unsigned char byte) { return byte >= 'A' && byte <= 'Z' ? byte + 32 : byte; }

static inline int is_blank(unsigned char byte) { return byte == ' ' || byte == '\t'; }

static inline Bytes line_end_of(Bytes line, Bytes end) {
    Bytes newline = memchr(line, '\n', (size_t)(end - line));
    return newline == NULL ? end : newline;
}

#endif
