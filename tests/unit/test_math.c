/* Goal: our exp, log and GELU are as exact as README.md says, and well
 * behaved at the ends of their ranges.
 * Method: every 4,099th float of the range against libm in double; the
 * largest error in units of the last place is printed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "matrix.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { STEP = 4099 };

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* |got - exact| in units of the last place of exact. */
static double error_ulp(float got, double exact)
{
    int exponent;
    (void)frexp(exact, &exponent);
    if (exponent < -125) exponent = -125;
    return fabs(got - exact) / ldexp(1, exponent - 24);
}

static void test_exp(void **state)
{
    double worst = 0;
    (void)state;
    for (uint32_t sign = 0; sign < 2; sign++)
        for (uint32_t bits = 0; bits < 0x42b00000u; bits += STEP) { /* 88 */
            float x = float_of(bits | sign << 31);
            if (x < -87) continue;
            worst = fmax(worst, error_ulp(matrix_exp(x), exp(x)));
        }
    print_message("exp: at most %.2f ulp\n", worst);
    assert_true(worst < 1.5);
}

static void test_exp_ends(void **state)
{
    (void)state;
    assert_true(matrix_exp(0) == 1);
    assert_true(matrix_exp(-88) == 0);
    assert_true(matrix_exp(-FLT_MAX) == 0);
    assert_true(matrix_exp(-INFINITY) == 0);
    assert_true(isfinite(matrix_exp(1000)));
    assert_true(matrix_exp(1000) > 1e38f);
    assert_true(matrix_exp(-87.2f) > FLT_MIN); /* nothing denormal comes out */
    assert_true(matrix_sigmoid(0) == 0.5f);
    assert_true(matrix_sigmoid(1000) == 1);
    assert_true(matrix_sigmoid(-1000) < 1e-37f);
}

static void test_log(void **state)
{
    double worst = 0;
    (void)state;
    for (uint32_t bits = 0x00800000u; bits < 0x7f800000u; bits += STEP) {
        float x = float_of(bits);
        double exact = log(x);
        if (fabs(exact) < 1e-3) continue; /* below: by absolute error */
        worst = fmax(worst, error_ulp(matrix_log(x), exact));
    }
    print_message("log: at most %.2f ulp\n", worst);
    assert_true(worst < 1.5);
    assert_true(matrix_log(1) == 0);
    for (float x = 0.999f; x < 1.001f; x += 1e-6f)
        assert_true(fabs(matrix_log(x) - log(x)) < 1e-9);
}

static void test_gelu(void **state)
{
    double worst = 0, worst_slope = 0, scale = sqrt(2 / acos(-1));
    (void)state;
    for (float x = -20; x < 20; x += 0.00317f) {
        double t = tanh(scale * (x + 0.044715 * x * x * (double)x));
        double slope = 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * scale *
                                           (1 + 3 * 0.044715 * x * (double)x);
        float y, dy = 1;
        matrix_gelu(&x, 1, &y);
        matrix_gelu_backward(&x, 1, &dy);
        worst = fmax(worst, fabs(y - 0.5 * x * (1 + t)));
        worst_slope = fmax(worst_slope, fabs(dy - slope));
    }
    print_message("GELU: at most %.2g, its slope %.2g, absolute\n", worst,
                  worst_slope);
    assert_true(worst < 2e-6 && worst_slope < 3e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exp),
        cmocka_unit_test(test_exp_ends),
        cmocka_unit_test(test_log),
        cmocka_unit_test(test_gelu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
