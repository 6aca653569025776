/* The header lines of one SIP message. */
#include "loops.h"

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

PyObject *sip_head_lines(PyObject *module, PyObject *raw) {
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
