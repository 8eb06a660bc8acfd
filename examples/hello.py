"""Smooth ten years of the Nile's flow at Aswan:   python hello.py --alpha 0.5"""
import argparse
import csv

parser = argparse.ArgumentParser()
parser.add_argument("--alpha", type=float, default=0.3, help="weight of the newest year")
alpha = parser.parse_args().alpha

flow = [1120, 1160, 963, 1210, 1160, 1160, 813, 1230, 1370, 1140]  # 10^8 m3 a year, 1871 to 1880
smooth = [flow[0]]
for value in flow[1:]:
    smooth.append(alpha * value + (1 - alpha) * smooth[-1])

with open("smooth.csv", "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["year", "flow", "smooth"])
    writer.writerows(zip(range(1871, 1881), flow, smooth))
print(f"Python: alpha {alpha:g}, the Nile in 1880, smoothed: {smooth[-1]:.1f}")
