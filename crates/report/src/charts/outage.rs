//! A trial around its fault, step by step: what arrived, who was connected, who tried; and how many tried at once.

use plotters::style::Color;
use plotters::style::text_anchor::{HPos, VPos};
use pushmark_measure::{FaultOutcome, Timeline};
use pushmark_results::plan::{Cell, FaultKind};

use super::frame::{Area, Axes, Frame, K, LABEL, Look, Panel, Style, draw as draw_frame, panel, put};
use super::palette;
use super::scale::{Scale, plain_number};
use super::series;
use super::text::{fit, width};
use super::{MOST_OUTAGES, Scene};
use crate::comparison::{Point, finished};
use crate::escape::{shorten, visible};
use crate::files::ReportError;

/// More steps than this are drawn in groups: no eye tells them apart.
const STEPS: usize = 400;
/// Panels of the herd, across and down.
const ACROSS: usize = 4;
const DOWN: usize = 6;

/// The first repeat of one variant that has a course.
struct Course<'a> {
    cell: &'a Cell,
    faults: &'a [FaultOutcome],
    timeline: &'a Timeline,
}

fn course<'a>(scene: &'a Scene<'_>, point: &Point, column: usize) -> Option<Course<'a>> {
    let cell = point.columns.get(column)?.cell?;
    let trials = finished(scene.run, cell).filter_map(|(t, s)| Some((t.repeat, s, s.timeline.as_ref()?)));
    let (_, summary, timeline) = trials
        .filter(|(_, _, timeline)| timeline.step_ms > 0)
        .min_by_key(|(repeat, ..)| *repeat)?;
    Some(Course {
        cell: scene.run.manifest.plan.cells.get(cell)?,
        faults: &summary.faults,
        timeline,
    })
}

/// How a panel reads its values from a course: what happened in so many steps, or how it stood at their end.
type Read = fn(&Timeline) -> &Vec<u64>;

/// Deliveries, open sessions and attempts of the first repeat; none when no trial of the point has a course.
pub(super) fn draw(scene: &Scene<'_>, title: &str) -> Result<Option<String>, ReportError> {
    let columns = scene.point.columns.len();
    let courses: Vec<Option<Course<'_>>> = (0..columns).map(|i| course(scene, scene.point, i)).collect();
    let Some(first) = courses.iter().flatten().next() else {
        return Ok(None);
    };
    let end = courses.iter().flatten().map(|c| {
        let steps = c.timeline.deliveries.len().max(c.timeline.open.len());
        steps.max(c.timeline.attempts.len()) as f64 * c.timeline.step_ms as f64 / 1e3
    });
    let x = Scale::between(0.0, end.fold(1.0, f64::max), plain_number);
    let rates: [(&str, Read, bool); 3] = [
        ("Deliveries per second", |t| &t.deliveries, true),
        ("Open sessions", |t| &t.open, false),
        ("Connection attempts per second", |t| &t.attempts, true),
    ];
    let lines: Vec<Vec<Vec<(f64, f64)>>> = rates
        .iter()
        .map(|(_, read, rate)| {
            let line = |c: &Option<Course<'_>>| c.as_ref().map(|c| line(c.timeline, *read, *rate));
            courses.iter().map(|c| line(c).unwrap_or_default()).collect()
        })
        .collect();
    let scales: Vec<Scale> = lines
        .iter()
        .map(|l| Scale::from_zero(l.iter().flatten().map(|(_, y)| *y), plain_number))
        .collect();
    let y_room = scales.iter().map(|s| s.widest_label(LABEL)).fold(0.0, f64::max);
    let mut more = "the first repeat; lines upon one another take turns".to_owned();
    if scene.comparison.is_sweep() {
        more = format!("{}  ·  {more}", scene.point.label);
        if scene.comparison.points.len() > MOST_OUTAGES {
            more.push_str("  ·  not all points are drawn");
        }
    }
    let frame = Frame {
        title: title.to_owned(),
        subtitle: scene.subtitle(&more),
        legend: scene.legend(Look::Line, |i| courses.get(i).is_some_and(Option::is_some)),
        doubt: scene.doubt(),
        note: scene.note(),
        height: 720,
    };
    draw_frame(&frame, |area| {
        let (_, height) = area.dim_in_pixel();
        // The lowest has its axis named, and so is a little higher.
        let each = (height as i32 - 22 * K) / 3;
        let (above, rest) = area.split_vertically(each);
        let (middle, below) = rest.split_vertically(each);
        for (i, place) in [above, middle, below].iter().enumerate() {
            let (title, ..) = rates[i];
            let axes = Axes {
                title,
                x: x.clone(),
                y: scales[i].clone(),
                x_words: if i == 2 {
                    "seconds since the measured window began"
                } else {
                    ""
                },
                y_words: "",
                y_room,
                grid: true,
            };
            let mut panel = panel(place, &axes, |panel| shade(panel, &axes, first))?;
            let drawn = lines[i].iter().enumerate().filter(|(_, l)| !l.is_empty());
            let drawn: Vec<_> = drawn
                .map(|(variant, line)| (line.clone(), palette::variant(variant)))
                .collect();
            series::together(place, &mut panel, &drawn)?;
            if i == 0 {
                name_faults(place, &panel, &axes, first)?;
            }
        }
        Ok(())
    })
    .map(Some)
}

/// A stair through the steps, in groups where they are many.
fn line(timeline: &Timeline, read: Read, rate: bool) -> Vec<(f64, f64)> {
    let values = read(timeline);
    let group = values.len().div_ceil(STEPS).max(1);
    let step_s = timeline.step_ms as f64 / 1e3;
    let stair = |(i, part): (usize, &[u64])| {
        let from = (i * group) as f64 * step_s;
        let length = part.len() as f64 * step_s;
        if rate {
            let sum: f64 = part.iter().map(|n| *n as f64).sum();
            [(from, sum / length), (from + length, sum / length)]
        } else {
            // How it stood at the end holds until the next end.
            let stood = part.last().map_or(0.0, |n| *n as f64);
            [(from + length, stood), (from + 2.0 * length, stood)]
        }
    };
    values.chunks(group).enumerate().flat_map(stair).collect()
}

/// What a fault leaves behind: from when, until it was over, until service was back; in seconds.
fn span(course: &Course<'_>, index: usize, fault: &FaultOutcome, end: f64) -> (f64, f64, f64) {
    let planned = course.cell.faults.get(index).map(|f| f.kind);
    // Over as soon as it has happened, unlike those that last to the end.
    let at_once = matches!(planned, Some(FaultKind::Fin | FaultKind::Rst));
    let onset = fault.onset.as_secs_f64();
    let cleared = match fault.cleared {
        Some(cleared) => cleared.as_secs_f64(),
        None if at_once => onset,
        None => end,
    };
    let available = fault.available.map_or(cleared, |a| a.as_secs_f64());
    let within = |v: f64| v.clamp(0.0, end);
    (
        within(onset),
        within(cleared.max(onset)),
        within(available.max(cleared)),
    )
}

fn shade(panel: &mut Panel<'_, '_>, axes: &Axes<'_>, course: &Course<'_>) -> Result<(), ReportError> {
    let (low, high) = (axes.y.low(), axes.y.high());
    for (index, fault) in course.faults.iter().enumerate() {
        let (onset, cleared, available) = span(course, index, fault, axes.x.high());
        series::fill(panel, [(onset, low), (cleared, high)], palette::FAULT.filled())?;
        series::fill(
            panel,
            [(cleared, low), (available, high)],
            palette::RESTORING.filled(),
        )?;
        series::dashed(panel, vec![(onset, low), (onset, high)], palette::FAULT_NAME)?;
    }
    Ok(())
}

/// The faults' names above the panel, where there is room.
fn name_faults(
    area: &Area<'_>,
    panel: &Panel<'_, '_>,
    axes: &Axes<'_>,
    course: &Course<'_>,
) -> Result<(), ReportError> {
    let (left, top) = area.get_base_pixel();
    let (right, _) = panel.backend_coord(&(axes.x.high(), 0.0));
    // The panel's title stands at the left.
    let mut free = f64::from(8) + width(axes.title, 12.5) + 12.0;
    for (index, fault) in course.faults.iter().enumerate() {
        let (onset, cleared, _) = span(course, index, fault, axes.x.high());
        let (from, y) = panel.backend_coord(&(onset, axes.y.high()));
        let mut text = shorten(&visible(&fault.kind), 24);
        if cleared > onset {
            let until = if cleared < axes.x.high() {
                format!(
                    " for {} s",
                    plain_number(((cleared - onset) * 100.0).round() / 100.0)
                )
            } else {
                " to the end".to_owned()
            };
            text.push_str(&until);
        }
        let room = f64::from((right - left) / K);
        let long = width(&text, 10.5);
        let at = (f64::from((from - left) / K)).min(room - long);
        if at < free {
            continue;
        }
        free = at + long + 10.0;
        let style = Style::new(10.5, palette::FAULT_NAME).anchor(HPos::Left, VPos::Bottom);
        put(area, &text, (at as i32, (y - top) / K - 3), &style)?;
    }
    Ok(())
}

/// How many tried to connect in each step around the fault, a panel for each variant and condition; none when nobody
/// ever tried.
pub(super) fn herd(scene: &Scene<'_>, title: &str) -> Result<Option<String>, ReportError> {
    let variants = &scene.comparison.variants;
    let tried = |c: &Course<'_>| c.timeline.attempts.iter().any(|n| *n > 0);
    let rows: Vec<(&Point, Vec<Option<Course<'_>>>)> = scene
        .comparison
        .points
        .iter()
        .map(|p| (p, (0..variants.len()).map(|i| course(scene, p, i)).collect()))
        .filter(|(_, courses): &(&Point, Vec<_>)| courses.iter().flatten().any(tried))
        .collect();
    if rows.is_empty() {
        return Ok(None);
    }
    let left_out = rows.len() > DOWN || variants.len() > ACROSS;
    let rows = &rows[..rows.len().min(DOWN)];
    let across = variants.len().clamp(1, ACROSS);
    let courses = || rows.iter().flat_map(|(_, c)| c.iter().take(across).flatten());
    let step_ms = courses().map(|c| c.timeline.step_ms).max().unwrap_or(100);
    let since = |c: &Course<'_>, i: usize| i as f64 * c.timeline.step_ms as f64 / 1e3 - onset(c);
    let busy = courses().flat_map(|c| {
        let steps = c.timeline.attempts.iter().enumerate();
        steps
            .filter(|(_, n)| **n > 0)
            .map(move |(i, _)| since(c, i))
            .collect::<Vec<_>>()
    });
    let (mut from, mut to) = (0.0_f64, 2.0_f64);
    for at in busy {
        (from, to) = (from.min(at), to.max(at));
    }
    let x = Scale::between((from - 0.5).max(-3.0), to + 0.5, plain_number);
    let most = courses().flat_map(|c| c.timeline.attempts.iter().map(|n| *n as f64));
    let y = Scale::from_zero(most, plain_number);
    let mut more = format!("attempts in each {step_ms} ms, one scale for all  ·  the first repeat");
    if left_out {
        more.push_str("  ·  the others are in the tables");
    }
    let frame = Frame {
        title: title.to_owned(),
        subtitle: scene.subtitle_of_all(&more),
        legend: Vec::new(),
        doubt: scene.doubt(),
        note: scene.note(),
        height: 120 + 190 * rows.len() as i32,
    };
    draw_frame(&frame, |area| {
        let places = area.split_evenly((rows.len(), across));
        let room = 920.0 / across as f64 - 40.0;
        for (n, place) in places.iter().enumerate() {
            let (row, column) = (n / across, n % across);
            let (point, courses) = &rows[row];
            let mut title = variants.get(column).map_or(String::new(), |v| v.label.clone());
            if scene.comparison.is_sweep() {
                title = format!("{title}: {}", point.label);
            }
            let axes = Axes {
                title: &fit(&title, 12.5, room),
                x: x.clone(),
                y: y.clone(),
                x_words: if row + 1 == rows.len() {
                    "seconds since the fault"
                } else {
                    ""
                },
                y_words: "",
                y_room: 0.0,
                grid: true,
            };
            bars(place, &axes, courses.get(column).and_then(Option::as_ref), column)?;
        }
        Ok(())
    })
    .map(Some)
}

fn onset(course: &Course<'_>) -> f64 {
    let first = course.faults.iter().map(|f| f.onset).min();
    first.map_or(0.0, |at| at.as_secs_f64())
}

fn bars(
    area: &Area<'_>,
    axes: &Axes<'_>,
    course: Option<&Course<'_>>,
    variant: usize,
) -> Result<(), ReportError> {
    let (low, high) = (axes.y.low(), axes.y.high());
    let mut panel = panel(area, axes, |panel| {
        let Some(course) = course else { return Ok(()) };
        // Until service is back, whoever tries is refused.
        let zero = onset(course);
        for (index, fault) in course.faults.iter().enumerate() {
            let (from, cleared, available) = span(course, index, fault, f64::MAX);
            let within = |v: f64| (v - zero).clamp(axes.x.low(), axes.x.high());
            let style = palette::FAULT.filled();
            series::fill(
                panel,
                [(within(from), low), (within(available.max(cleared)), high)],
                style,
            )?;
        }
        Ok(())
    })?;
    let mut nothing = true;
    if let Some(course) = course {
        let (step, zero) = (course.timeline.step_ms as f64 / 1e3, onset(course));
        for (i, count) in course
            .timeline
            .attempts
            .iter()
            .enumerate()
            .filter(|(_, n)| **n > 0)
        {
            let from = i as f64 * step - zero;
            if from + step < axes.x.low() || from > axes.x.high() {
                continue;
            }
            nothing = false;
            let corners = [(from, 0.0), (from + step * 0.9, *count as f64)];
            series::fill(&mut panel, corners, palette::variant(variant).filled())?;
        }
    }
    if nothing {
        let middle = ((axes.x.low() + axes.x.high()) / 2.0, high / 2.0);
        let at = panel.backend_coord(&middle);
        let (left, top) = area.get_base_pixel();
        let style = Style::new(LABEL, palette::FAINT).anchor(HPos::Center, VPos::Center);
        let text = if course.is_some() { "no attempt" } else { "no data" };
        put(area, text, ((at.0 - left) / K, (at.1 - top) / K), &style)?;
    }
    Ok(())
}
