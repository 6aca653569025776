/* Texts numbered by their values. */
#include "loops.h"

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

PyObject *distinct(PyObject *module, PyObject *args) {
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
int choose_secret(void) {
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
