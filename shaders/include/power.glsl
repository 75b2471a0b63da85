// Powers of two, by which numbers are brought into float16's range and back without rounding.

// 2^n, for n from -126 to 127.
float power(int n) { return uintBitsToFloat(uint(n + 127) << 23u); }

// v * 2^n, for n from -252 to 254: in two steps, since 2^n alone may be beyond float32.
float scaled(float v, int n) {
    precise float r = v * power(n / 2);
    return r * power(n - n / 2);
}
