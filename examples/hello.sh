# Smooth ten years of the Nile's flow at Aswan:   sh hello.sh --alpha 0.5
set -eu

alpha=0.3
while [ $# -gt 0 ]; do
    case $1 in
        --alpha) alpha=$2; shift 2 ;;
        *) echo "usage: sh hello.sh [--alpha WEIGHT]" >&2; exit 2 ;;
    esac
done

# 10^8 m3 a year, 1871 to 1880
printf '%s\n' 1120 1160 963 1210 1160 1160 813 1230 1370 1140 |
    awk -v alpha="$alpha" '
        BEGIN { print "year,flow,smooth" }
        { smooth = NR == 1 ? $1 : alpha * $1 + (1 - alpha) * smooth; printf "%d,%d,%.6f\n", 1870 + NR, $1, smooth }
    ' > smooth.csv
tail -n 1 smooth.csv | awk -F, -v alpha="$alpha" '{ printf "shell: alpha %g, the Nile in 1880, smoothed: %.1f\n", alpha, $3 }'
