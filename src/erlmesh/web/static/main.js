// Joins the parts: keeps what the server sends, and draws one moment of it, at most once in an animation frame.
import { ServerEvents, fetchRecording, requestControl } from "./connection.js";
import { DetailsView } from "./details_view.js";
import { element, keyed, setText } from "./dom.js";
import { announcement } from "./events.js";
import { History } from "./history.js";
import { MATRIX_FROM } from "./layout.js";
import { linksToDraw } from "./links.js";
import { ListsView } from "./lists_view.js";
import { MatrixView } from "./matrix_view.js";
import { MeshView } from "./mesh_view.js";
import { nodeNames, nodeView } from "./nodes.js";
import { LARGEST_RECORDING, readRecording } from "./recording.js";
import { summaryOf } from "./summary.js";
import { EventsView, TimeBar } from "./time_view.js";

const byId = (id) => document.getElementById(id);
const FRAME = 90; // milliseconds between two drawings; a change that comes alone is drawn at once
const ANNOUNCE = 1500; // milliseconds between two sentences of a screen reader

const page = {
  live: new History(),
  recording: null, // the history of an opened recording, which is shown in place of the live one
  clock: { server: Date.now() / 1000, local: performance.now() },
  observer: "",
  control: false,
  csrf: null,
  recorded: false,
  selected: null,
  isRefused: false, // the notice says why the server sends nothing
  unheard: [], // events that the screen reader has not been told
};
let drawnAt = -Infinity;
let isScheduled = false;

function history() {
  return page.recording ?? page.live;
}

function serverNow() {
  return page.clock.server + (performance.now() - page.clock.local) / 1000;
}

// Drawing

function schedule() {
  if (isScheduled) return;
  isScheduled = true;
  const wait = drawnAt + FRAME - performance.now();
  if (wait <= 0) requestAnimationFrame(draw);
  else setTimeout(() => requestAnimationFrame(draw), wait);
}

function draw() {
  isScheduled = false;
  drawnAt = performance.now();
  const kept = history();
  const isLive = timeBar.shown === null && !page.recording;
  const end = page.recording ? kept.end : Math.max(serverNow(), kept.end ?? 0);
  const now = isLive ? end : Math.max(kept.start ?? 0, Math.min(end, timeBar.shown ?? end));
  const reports = kept.reportsAt(isLive ? Infinity : now);
  const events = isLive ? kept.events : kept.eventsUntil(now);
  const nodes = nodeNames(reports).map((name) => nodeView(name, reports.get(name), now));
  const links = linksToDraw(reports, nodes.map(({ name }) => name), now);
  const scene = { nodes, links, reports, now, selected: page.selected, control: page.control && isLive };
  document.body.dataset.mode = page.recording ? "recording" : isLive ? "live" : "past";
  drawMesh(scene);
  keyed(byId("summary"), nodes.length ? summaryOf(nodes, links) : [], ({ text }) => text.replace(/\d+/, ""), ({ tone }) => element("span", { "data-tone": tone }), (part, { text }) => setText(part, text));
  details.render(scene);
  lists.render(scene);
  eventList.render(events, nodes);
  timeBar.render({ range: [kept.start ?? end, end], events: kept.events, canBeLive: !page.recording });
}

function drawMesh(scene) {
  const isMatrix = scene.nodes.length >= MATRIX_FROM;
  document.body.dataset.view = isMatrix ? "matrix" : "circle";
  byId("circle").toggleAttribute("hidden", isMatrix);
  byId("matrix").hidden = !isMatrix;
  byId("empty").hidden = scene.nodes.length > 0;
  const nothing = { ...scene, nodes: [], links: [] };
  circle.render(isMatrix ? nothing : scene);
  matrix.render(isMatrix ? scene : nothing);
}

// What the server sends

function receive(type, data) {
  if (Number.isFinite(data.now)) page.clock = { server: data.now, local: performance.now() };
  if (type === "snapshot") {
    Object.assign(page, { observer: data.observer, control: data.control, csrf: data.csrf ?? null, recorded: data.recorded });
    document.title = `Cluster map of ${data.observer}`;
    if (data.recorded) {
      showServerRecording();
      return;
    }
  }
  if (type !== "clock") page.live.add(type, data, serverNow());
  if (type === "event") page.unheard.push(data.event);
  schedule();
}

function connectionChanged(state) {
  if (state === "live" && page.isRefused) {
    page.isRefused = false;
    showNotice("");
  }
  document.body.dataset.connection = state;
  setText(byId("connection-text"), state === "live" ? `live from ${page.observer || "the server"}` : state);
}

/** The server does not send events, and says why. */
function refused(text) {
  page.isRefused = true;
  showProblem(text);
}

function announce() {
  if (page.unheard.length === 0) return;
  const log = byId("announcer");
  log.append(element("p", {}, announcement(page.unheard)));
  page.unheard = [];
  while (log.children.length > 20) log.firstChild.remove();
}

// Recordings

async function showServerRecording() {
  try {
    showRecording(readRecording(await fetchRecording()), "the server");
  } catch (error) {
    showProblem(`The recording cannot be shown. ${error.message}`);
  }
}

async function openFile(file) {
  if (file.size > LARGEST_RECORDING) {
    showProblem(`${file.name} is larger than ${LARGEST_RECORDING / 1048576} MiB.`);
    return;
  }
  try {
    showRecording(readRecording(await file.text()), file.name);
  } catch (error) {
    showProblem(`${file.name} cannot be shown. ${error.message}`);
  }
}

function showRecording({ history: opened }, name) {
  page.recording = opened;
  page.selected = null;
  showNotice("");
  setText(byId("connection-text"), `recording: ${name}`);
  timeBar.playing = false;
  timeBar.show(opened.start);
}

function goLive() {
  if (page.recorded) timeBar.show(page.recording?.end ?? null);
  if (page.recording && !page.recorded) {
    page.recording = null;
    connectionChanged(document.body.dataset.connection);
  }
  schedule();
}

function save() {
  const lines = history().lines();
  if (lines.length === 0) return;
  const address = URL.createObjectURL(new Blob([lines.join("\n"), "\n"], { type: "application/x-ndjson" }));
  const link = element("a", { href: address, download: `cluster-${new Date().toISOString().slice(0, 19).replaceAll(":", "-")}.jsonl` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}

// What the user does

function select(item) {
  page.selected = item;
  schedule();
}

function showProblem(text) {
  showNotice(text, "bad");
}

function showNotice(text, tone = "plain") {
  const notice = byId("notice");
  notice.hidden = !text;
  notice.dataset.tone = tone;
  setText(notice, text);
}

async function control(action, data) {
  const questions = { end: `End the process ${data.pid} of ${data.node}?`, disconnect: `Disconnect ${data.node} and ${data.peer}?` };
  if (questions[action] && !window.confirm(questions[action])) return;
  showNotice("");
  try {
    showNotice(await requestControl(action, data, page.csrf));
  } catch (error) {
    showProblem(error.message);
  }
}

const circle = new MeshView(byId("circle"), select);
const matrix = new MatrixView(byId("matrix"), select);
const details = new DetailsView({ body: byId("details-body"), title: byId("details-title"), hint: byId("details-hint"), unselect: byId("unselect") }, select, control);
const lists = new ListsView(
  {
    filter: byId("filter"), seenBy: byId("seen-by"), groups: byId("groups"), groupsCount: byId("groups-count"), groupsMore: byId("groups-more"),
    namesSection: byId("names-section"), names: byId("names"), namesCount: byId("names-count"), namesMore: byId("names-more"),
    shardsSection: byId("shards-section"), shards: byId("shards"),
  },
  control,
  schedule,
);
const eventList = new EventsView({ list: byId("events"), choice: byId("event-node") }, schedule);
const timeBar = new TimeBar({ slider: byId("time"), play: byId("play"), live: byId("live"), speed: byId("speed"), shownTime: byId("shown-time"), marks: byId("marks") }, schedule);

byId("live").addEventListener("click", goLive);
byId("save").addEventListener("click", save);
byId("open").addEventListener("click", () => byId("file").click());
byId("file").addEventListener("change", (event) => {
  if (event.target.files.length) openFile(event.target.files[0]);
  event.target.value = "";
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && page.selected && event.target !== byId("filter")) select(null);
});
setInterval(announce, ANNOUNCE);
setInterval(schedule, 1000); // ages and countdowns
setInterval(() => timeBar.advance(0.1), 100);
new ServerEvents(receive, connectionChanged, refused);
