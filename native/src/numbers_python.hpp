// Numbers from Python, in range or ValueError.
#pragma once
#include <nanobind/nanobind.h>

#include <stdexcept>

namespace nextok {

// A whole number from `least` up, cut to `most`.
inline int count(nanobind::handle number, int least, int most, const char* message) {
    int overflow;
    const long long value = PyLong_AsLongLongAndOverflow(number.ptr(), &overflow);
    if (value == -1 && PyErr_Occurred()) throw nanobind::python_error();
    if (overflow < 0 || (overflow == 0 && value < least)) throw std::invalid_argument(message);
    return overflow > 0 || value > most ? most : int(value);
}

// A whole number from 0 up to `end`, without it.
inline int index(nanobind::handle number, int end, const char* message) {
    const int value = count(number, 0, end, message);
    if (value == end) throw std::invalid_argument(message);
    return value;
}

inline double real(nanobind::handle number) {
    const double value = PyFloat_AsDouble(number.ptr());
    if (value == -1 && PyErr_Occurred()) throw nanobind::python_error();
    return value;
}

inline double between(nanobind::handle number, double least, double most, const char* message) {
    const double value = real(number);
    if (!(value >= least && value <= most)) throw std::invalid_argument(message);
    return value;
}

inline bool is(nanobind::handle object, const nanobind::object& type) {
    return PyObject_TypeCheck(object.ptr(), reinterpret_cast<PyTypeObject*>(type.ptr()));
}

}  // namespace nextok
