"""The sweeps a 2602B brings with it as a factory script, KISweep, written anew from what the manual says of them.

Source: 2600BS-901-01 Rev. C, section 5 ("Factory scripts", "KISweep"): each sets the source to its first
level, waits `stime`, measures, goes on, and leaves readings in nvbuffer1 and nvbuffer2 with source values.
Unverified: whether the output is left on (here: off, level 0).
"""

SWEEPS = """
local function sweep(smu, source, measure, levels, stime)
    smu.source.func = source == "v" and smu.OUTPUT_DCVOLTS or smu.OUTPUT_DCAMPS
    for _, buffer in ipairs({smu.nvbuffer1, smu.nvbuffer2}) do
        buffer.clear()
        buffer.appendmode = 1
        buffer.collectsourcevalues = 1
        buffer.collecttimestamps = 1
    end
    smu.source["level" .. source] = levels[1]
    smu.source.output = smu.OUTPUT_ON
    for _, level in ipairs(levels) do
        smu.source["level" .. source] = level
        delay(stime)
        smu.measure[measure](smu.nvbuffer1)
    end
    smu.source.output = smu.OUTPUT_OFF
    smu.source["level" .. source] = 0
end

local function linear(start, stop, points)
    local levels = {}
    for n = 1, points do levels[n] = start + (stop - start) * (n - 1) / math.max(1, points - 1) end
    return levels
end

local function logarithmic(start, stop, points)
    local levels = {}
    for n = 1, points do levels[n] = start * (stop / start) ^ ((n - 1) / math.max(1, points - 1)) end
    return levels
end

function SweepVLinMeasureI(smu, startv, stopv, stime, points)
    sweep(smu, "v", "i", linear(startv, stopv, points), stime)
end
function SweepILinMeasureV(smu, starti, stopi, stime, points)
    sweep(smu, "i", "v", linear(starti, stopi, points), stime)
end
function SweepVLogMeasureI(smu, startv, stopv, stime, points)
    sweep(smu, "v", "i", logarithmic(startv, stopv, points), stime)
end
function SweepILogMeasureV(smu, starti, stopi, stime, points)
    sweep(smu, "i", "v", logarithmic(starti, stopi, points), stime)
end
function SweepVListMeasureI(smu, vlist, stime, points)
    sweep(smu, "v", "i", vlist, stime)
end
function SweepIListMeasureV(smu, ilist, stime, points)
    sweep(smu, "i", "v", ilist, stime)
end
"""
