#include <gtest/gtest.h>
#include <chrono>
#include <cstdio>
#include "host/model/symmetry.hpp"
#include "tests/designs.hpp"
#include "host/data/read.hpp"
#include "host/formula/formula.hpp"
using namespace batchlmm; using namespace batchlmm::designs;
static void show(const char* name, std::shared_ptr<const ModelMatrices> m){
  auto t0=std::chrono::steady_clock::now(); Model model(m,Method::reml); auto t1=std::chrono::steady_clock::now();
  std::string why; auto s=find_strata(model,{},&why); auto t2=std::chrono::steady_clock::now();
  auto ms=[](auto a,auto b){return std::chrono::duration<double,std::milli>(b-a).count();};
  std::printf("%-40s n %ld model %.1f ms strata %.2f ms ",name,(long)m->y.size(),ms(t0,t1),ms(t1,t2));
  if(!s){std::printf("NO: %s\n",why.c_str());fflush(stdout);return;}
  double v=verify_strata(model,*s); auto t3=std::chrono::steady_clock::now();
  std::printf("rank %d cert %.1e tries %d verify %.1e (%.1f ms)",s->rank,s->certificate,s->tries,v,ms(t2,t3));
  for(auto&x:s->strata)std::printf(" (%d,%d)",x.d,x.m); std::printf("\n");fflush(stdout);
}
static void show(const char*n,const Design&d){show(n,d.matrices());}
TEST(Probe,All){
  show("sleep",longitudinal(18,10));
  {auto d=crossed(6,7);show("politeness slopes",d);d.terms={{"s",{"1"}},{"i",{"1"}}};show("politeness int",d);}
  show("50x20x2",crossed(50,20));
  {auto d=crossed(50,20);d.terms={{"s",{"1"}},{"s",{"c"}},{"i",{"1"}},{"i",{"c"}}};show("zero-corr",d);}
  {auto d=crossed(50,20);d.terms={{"s",{"1","c"}},{"i",{"1","c","group"}}};show("item slope on subject group",d);}
  show("nested",nested(8,3,4)); show("nested big",nested(60,10,20));
  show("oats",split_plot(6,3,4));
  show("lists 56x32 max",lists(56,32));
  show("cyclic 60 30 10",cyclic(60,30,10));
  show("cyclic 7 7 3",cyclic(7,7,3));
  show("cyclic 60 29 10",cyclic(60,29,10));
  show("dropout",dropout({30,18,12},{6,4,3}));
  show("400x200x2",crossed(400,200));
  show("long 2000x8",longitudinal(2000,8));
  for(int k:{1,5,20,200}) show(("50x20x2 missing "+std::to_string(k)).c_str(),crossed(50,20).with_missing(k,3));
  show("200x100x2 missing 3%",crossed(200,100).with_missing(1200,3));
  show("lists missing 3",lists(56,32).with_missing(3,3));
  show("lists missing 10%",lists(56,32).with_missing(180,3));
  {std::mt19937_64 r(3);std::normal_distribution<double> nd;auto d=longitudinal(500,6);for(auto&t:d.number["t"])t+=.3*nd(r);show("unique times",d);}
  for(double e:{0.,1e-14,1e-13,1e-12,1e-11,1e-10,1e-9,1e-8,1e-6,1e-4,1e-2}){std::mt19937_64 r(3);std::normal_distribution<double> nd;auto d=longitudinal(40,6);for(auto&t:d.number["t"])t+=e*nd(r);show(("jitter "+std::to_string(e)).c_str(),d);}
  for(double e:{1e-14,1e-13,1e-12,1e-11,1e-10,1e-8,1e-6,1e-4}){std::mt19937_64 r(3);std::normal_distribution<double> nd;auto d=crossed(50,20);for(auto&t:d.number["c"])t+=e*nd(r);show("jitter crossed",d);}
  for(auto&f:{"rt_raw ~ 1 + spkr*prec*load + (1|subj) + (1|item)","rt_raw ~ 1 + spkr*prec*load + (1+spkr*prec*load|subj) + (1+spkr*prec*load|item)"}){
    show("kb07",std::make_shared<ModelMatrices>(model_matrices(parse_formula(f),read_table("/work/shared/data/kb07.csv"))));}
}
