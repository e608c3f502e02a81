#!/usr/bin/env bash
# Measures an exported model on an Android phone through adb and reads the result back.
#
#   scripts/phone_bench.sh models/STYLE/mobile.mnn MNN_BUILD [THREADS...]
#
# MNN_BUILD is an Android build of MNN (its project/android/build_64.sh with -DMNN_BUILD_BENCHMARK=ON makes one): the
# folder with benchmark.out and libMNN.so. Nothing is installed on the phone; files go to /data/local/tmp and away again.
set -euo pipefail

if [ $# -lt 2 ]; then
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
model=$1 build=$2
shift 2
[ $# -gt 0 ] || set -- 1 2 4

command -v adb >/dev/null || { echo "phone_bench: adb is not installed (Android platform-tools)" >&2; exit 2; }
for file in "$model" "$build/benchmark.out" "$build/libMNN.so"; do
    [ -f "$file" ] || { echo "phone_bench: $file: no such file" >&2; exit 3; }
done
[ "$(adb get-state 2>/dev/null)" = device ] || { echo "phone_bench: no phone; enable USB debugging, see 'adb devices'" >&2; exit 3; }

remote=/data/local/tmp/stylefactory_bench
adb shell "rm -rf $remote && mkdir -p $remote/models"
trap 'adb shell "rm -rf $remote" >/dev/null 2>&1' EXIT
adb push "$build/benchmark.out" "$build/libMNN.so" "$remote/" >/dev/null
# optional back ends of MNN, where the build has them
for file in "$build"/libMNN_*.so; do
    [ -f "$file" ] && adb push "$file" "$remote/" >/dev/null
done
adb push "$model" "$remote/models/" >/dev/null

echo "phone: $(adb shell getprop ro.product.model | tr -d '\r'), $(adb shell getprop ro.soc.model | tr -d '\r'), Android $(adb shell getprop ro.build.version.release | tr -d '\r')"
echo "model: $model, $(wc -c <"$model") bytes"
for threads in "$@"; do
    # arguments of benchmark.out: models folder, loops, warm-up, back end (0 = CPU), threads, precision (2 = low: fp16)
    for precision in 1 2; do
        echo "threads $threads, precision $([ "$precision" = 1 ] && echo high || echo 'low (fp16)')"
        adb shell "cd $remote && chmod +x benchmark.out && LD_LIBRARY_PATH=. ./benchmark.out models 50 10 0 $threads $precision" \
            | tr -d '\r' | grep -E 'max|min|avg' || echo "  no result; run benchmark.out by hand to see why"
    done
done
