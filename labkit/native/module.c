/* What all share, and the module. */
#include "loops.h"

int lie_inside(Py_ssize_t length, const int64_t *starts, const int64_t *sizes, Py_ssize_t count) {
    Py_ssize_t index;
    for (index = 0; index < count; index++)
        if (starts[index] < 0 || sizes[index] < 0 || starts[index] > length || sizes[index] > length - starts[index]) {
            PyErr_SetString(PyExc_ValueError, "a piece does not lie inside raw");
            return 0;
        }
    return 1;
}

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
