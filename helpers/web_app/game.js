"use strict";
const find = (name) => element.querySelector(name);
const REMEMBERED = "photo-geolocation-game";
const NO_ANSWER = "The page gets no answer. Is it still running? Try again, or reload.";

/* Storage may be shut off: then the page asks for the name again. */
const remembered = () => {
  try {
    const found = JSON.parse(window.localStorage.getItem(REMEMBERED));
    return found && typeof found.player === "string" && typeof found.dataset === "string" ? found : null;
  } catch (error) {
    return null;
  }
};
const remember = (game) => {
  try {
    window.localStorage.setItem(REMEMBERED, JSON.stringify(game));
  } catch (error) {
    console.warn("the name is not remembered:", error);
  }
};

const say = (words) => { find(".error").textContent = words; };
const asked = async (name, request) => {
  say("");
  try {
    const answer = await server[name](request);
    if (answer && !answer.error) return answer;
    say(answer ? answer.error : NO_ANSWER);
  } catch (error) {
    say(NO_ANSWER);
  }
  return null;
};

let game = null; // player and dataset
let round = null; // number of the photo that is asked about
let chosen = null; // latitude and longitude
let waiting = false;

/* A map needs an element with a size, which one in a closed tab has not. */
const map = new Promise((resolve) => {
  const place = find(".map");
  new ResizeObserver((_, observer) => {
    if (!place.clientWidth || !window.geolocationMap) return;
    observer.disconnect();
    resolve(window.geolocationMap(place, "World map to answer on. Enter chooses its middle"));
  }).observe(place);
});

const degrees = (value, positive, negative) => `${Math.abs(value).toFixed(2)}° ${value < 0 ? negative : positive}`;
const byCountries = () => find("input[value=countries]").checked;
const typed = () => [...element.querySelectorAll(".country")].map((input) => input.value);
const ready = () => {
  find(".send").disabled = waiting || !(byCountries() ? typed().some((name) => name.trim()) : chosen);
};
const choose = async (latitude, longitude) => {
  if (round === null || waiting) return;
  chosen = [latitude, longitude];
  find("input[value=place]").checked = true;
  switchAnswer();
  find(".chosen").textContent = `Chosen: ${degrees(latitude, "N", "S")}, ${degrees(longitude, "E", "W")}.`;
  const marker = { latitude, longitude, kind: "person", mark: "Y", label: "Your answer, not sent yet" };
  (await map).show({ places: [marker] }, false);
};
const switchAnswer = () => {
  find(".by-place").hidden = byCountries();
  find(".by-countries").hidden = !byCountries();
  ready();
};

const show = (part) => {
  for (const name of [".start", ".playing"]) find(name).hidden = name !== part;
};
const next = async (focus) => {
  if (waiting) return;
  waiting = true;
  const answer = await asked("ask", game);
  waiting = false;
  if (!answer) {
    if (find(".playing").hidden) show(".start");
    return;
  }
  game.player = answer.player;
  remember(game);
  show(".playing");
  find(".player").textContent = game.player;
  find(".dataset").textContent = game.dataset;
  find(".points").textContent = answer.points;
  find(".result").hidden = true;
  round = answer.done ? null : answer.round;
  chosen = null;
  find(".heading").textContent = answer.done || answer.heading;
  find(".table").hidden = find(".answering").hidden = Boolean(answer.done);
  find(".chosen").textContent = "";
  for (const input of element.querySelectorAll(".country")) input.value = "";
  ready();
  if (!answer.done) {
    find(".photo").src = answer.picture;
    find(".shown").textContent = answer.shown;
    const world = await map;
    world.show({}, true);
    world.ask(choose);
  }
  if (focus) find(".heading").focus();
};
const send = async () => {
  if (round === null || waiting) return;
  const request = { player: game.player, round, ...(byCountries() ? { countries: typed() } : { place: chosen }) };
  waiting = true;
  ready();
  const answer = await asked("answer", request);
  waiting = false;
  ready();
  if (!answer) return;
  round = null;
  find(".answering").hidden = true;
  find(".verdict").textContent = answer.heading;
  find(".lines").replaceChildren(...answer.lines.map((words) => {
    const line = document.createElement("li");
    line.textContent = words;
    return line;
  }));
  find(".points").textContent = answer.points;
  find(".result").hidden = false;
  const world = await map;
  world.ask(null);
  world.show(answer.layers, true);
  world.map.zoomOut(0.5, { animate: false }); // so that no mark lies below the buttons of the map
  find(".verdict").focus();
};

const start = async () => {
  const answer = await asked("start", {});
  if (!answer) {
    show(".start");
    return;
  }
  const option = (words, value) => {
    const made = document.createElement("option");
    made.textContent = words;
    made.value = value;
    return made;
  };
  find(".datasets").replaceChildren(...answer.datasets.map(({ name, photos }) => option(`${name} (${photos} photos)`, name)));
  find("datalist").replaceChildren(...answer.countries.map((name) => option("", name)));
  find(".name").maxLength = answer.longest;
  find(".run").textContent = answer.run;
  const last = remembered();
  const there = (name) => answer.datasets.some((each) => each.name === name);
  find(".datasets").value = last && there(last.dataset) ? last.dataset : answer.chosen;
  find(".name").value = last ? last.player : "";
  if (!answer.datasets.length) say("There is no data list with test photos to play with: make one with 01_data/make_list.ipynb.");
  if (last && there(last.dataset)) {
    game = last;
    await next(false);
  } else show(".start");
};

find(".start").addEventListener("submit", (event) => {
  event.preventDefault();
  game = { player: find(".name").value, dataset: find(".datasets").value };
  next(true);
});
find(".answering").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!find(".send").disabled) send();
});
find(".answering").addEventListener("input", switchAnswer);
find(".next").addEventListener("click", () => next(true));
find(".leave").addEventListener("click", () => {
  if (waiting) return;
  round = null;
  say("");
  show(".start");
  find(".name").focus();
});
start();
