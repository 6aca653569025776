/* Media as they nearly always travel. */
#include "loops.h"

typedef struct { /* `decode.plain` knows it, too */
    uint64_t src, dst;
    int64_t size;
    uint32_t timestamp, ssrc;
    uint16_t src_port, dst_port, sequence;
    uint8_t first, second;
} Media;

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

PyObject *plain_media(PyObject *module, PyObject *args) {
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
